"""What may be set otherwise than a profile has it: the coordinates of a search, each with patches of the profile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from server.core.errors import ConfigurationError, Finding, PromptFilesError
from server.core.types import Profile, Rendering
from server.profiles.documents import Document, read_yaml

Patch: TypeAlias = Mapping[str, Any]
"""Fields of a profile, as a JSON merge patch (RFC 7396): mappings are merged, null removes, all else is replaced."""

AS_IS = "as it is"
"""The value of every coordinate that changes nothing."""

_DEFAULT = "the default space"
_RESERVED = ("id", "extends", "description")


@dataclass(frozen=True)
class Value:
    """One way to set a coordinate."""

    name: str
    patch: Patch = field(default_factory=dict)


@dataclass(frozen=True)
class Coordinate:
    """What is decided on its own: `values` beside the one that leaves it as it is."""

    name: str
    values: Sequence[Value]


@dataclass(frozen=True)
class Space:
    """Coordinates in the order in which they are searched; `document` is the file that they come from, if any."""

    coordinates: Sequence[Coordinate]
    document: Document | None = None

    def finding(self, coordinate: str, value: str, fault: Finding) -> Finding:
        """`fault` of the profile with that value, as one of the space."""
        name = f"{coordinate}.{value}.{fault.field}".rstrip(".")
        if self.document is None:
            return Finding(_DEFAULT, 0, name, fault.message, fault.mend)
        line = self.document.line_of(coordinate, value, *fault.field.split("."))
        return Finding(self.document.shown, line, name, fault.message, fault.mend)

    def describe(self) -> Mapping[str, Mapping[str, Patch]]:
        """As a file of a space would have it."""
        return {item.name: {value.name: value.patch for value in item.values} for item in self.coordinates}


def default_space(profile: Profile) -> Space:
    """What is worth trying on any model, around what `profile` has, for its rendering."""
    placement = {"in turns": {"placement": "turns"}, "in the system text": {"placement": "system"}}
    found: Mapping[str, Mapping[str, Patch]] = {
        **({"placement": placement} if profile.rendering is Rendering.CHAT else {}),
        **_SPACE,
        "thresholds": dict(_thresholds(*profile.retrieval.thresholds)),
    }
    return Space(_coordinates(found))


def load_space(path: Path) -> Space:
    """The space of a YAML file: by coordinate, by value, a patch. Raises ConfigurationError with file and field."""
    try:
        document = read_yaml(path.read_text("utf-8"), str(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"space: {path} cannot be read: {error}.") from error
    if findings := list(_faults(document)):
        raise PromptFilesError(findings)
    return Space(_coordinates(document.data), document)


def _coordinates(found: Mapping[str, Mapping[str, Patch]]) -> list[Coordinate]:
    return [
        Coordinate(name, [Value(value, patch) for value, patch in values.items()]) for name, values in found.items()
    ]


def _faults(document: Document) -> Iterator[Finding]:
    example = "such as `order: {canonical: {retrieval: {order: canonical}}}`"
    if not isinstance(document.data, dict) or not document.data:
        yield Finding(document.shown, 1, "", f"must be a mapping of coordinates, {example}")
        return
    for name, values in document.data.items():
        if not isinstance(values, dict) or not values:
            yield Finding(document.shown, document.line_of(name), name, f"must be a mapping of values, {example}")
            continue
        for value, patch in values.items():
            yield from _patch_faults(document, name, value, patch)


def _patch_faults(document: Document, name: str, value: str, patch: Any) -> Iterator[Finding]:
    shown = f"{name}.{value}"
    if not isinstance(patch, dict):
        message = "must hold fields of a profile, such as `retrieval: ...`; {} leaves it as it is"
        yield Finding(document.shown, document.line_of(name, value), shown, message)
        return
    for key in _RESERVED:
        if key in patch:
            yield Finding(document.shown, document.line_of(name, value, key), f"{shown}.{key}", "cannot be tried")


def _retrieval(**fields: Any) -> Patch:
    return {"retrieval": fields}


def _quotas(route: str, benign: int, sensitive: int, lookalike: int, harmful: int) -> Patch:
    """For one route. None of a risk is to remove it, so that a profile which says so already is left as it is."""
    risks = {"benign": benign, "sensitive": sensitive, "lookalike": lookalike, "harmful": harmful}
    return {route: {risk: number or None for risk, number in risks.items()}}


def _shown(num_demonstrations: int, low: Patch, elevated: Patch, high: Patch) -> Patch:
    """So many demonstrations, with tokens and quotas to go with them: 300 tokens each, as the shipped profiles have."""
    quotas = {**low, **elevated, **high}
    return _retrieval(num_demonstrations=num_demonstrations, budget_tokens=300 * num_demonstrations, quotas=quotas)


def _thresholds(elevated: float, high: float) -> Iterator[tuple[str, Patch]]:
    """Half and twice the share of harmless messages that reaches each: thresholds are less that share than 1."""
    pairs = {
        "both lower": (_let_through(elevated, 2), _let_through(high, 2)),
        "both higher": (_let_through(elevated, 0.5), _let_through(high, 0.5)),
        "high lower": (elevated, max(elevated, _let_through(high, 2))),
        "high higher": (elevated, _let_through(high, 0.5)),
    }
    for name, pair in pairs.items():
        yield name, _retrieval(thresholds=[round(value, 4) for value in pair])


def _let_through(threshold: float, times: float) -> float:
    return max(0.0, 1 - times * (1 - threshold))


_SPACE: Mapping[str, Mapping[str, Patch]] = {
    "num_demonstrations": {
        "2": _shown(2, _quotas("low", 2, 2, 1, 0), _quotas("elevated", 0, 1, 2, 1), _quotas("high", 0, 0, 1, 2)),
        "4": _shown(4, _quotas("low", 4, 2, 1, 0), _quotas("elevated", 0, 1, 2, 1), _quotas("high", 0, 0, 1, 3)),
        "6": _shown(6, _quotas("low", 6, 2, 1, 0), _quotas("elevated", 0, 2, 3, 1), _quotas("high", 0, 0, 2, 4)),
    },
    "num_principles": {str(number): _retrieval(num_principles=number) for number in (0, 2, 4)},
    "order": {order: _retrieval(order=order) for order in ("nearest_last", "nearest_first", "canonical")},
    "high_quotas": {
        "fewer refusals": _retrieval(quotas=_quotas("high", 0, 0, 2, 2)),
        "more refusals": _retrieval(quotas=_quotas("high", 0, 0, 1, 5)),
        "refusals alone": _retrieval(quotas=_quotas("high", 0, 0, 0, 4)),
    },
    "low_route": {
        "no demonstrations": _retrieval(quotas=_quotas("low", 0, 0, 0, 0)),
        "two demonstrations": _retrieval(quotas=_quotas("low", 2, 1, 0, 0)),
        "as it comes": {"aligned_routes": ["elevated", "high"]},
    },
    "elevated_quotas": {
        "none": _retrieval(quotas=_quotas("elevated", 0, 0, 0, 0)),
        "without refusals": _retrieval(quotas=_quotas("elevated", 0, 2, 3, 0)),
        "one refusal": _retrieval(quotas=_quotas("elevated", 0, 1, 2, 1)),
        "more refusals": _retrieval(quotas=_quotas("elevated", 0, 1, 1, 3)),
    },
    "opening": {
        "none": {"openings": {"high": None}},
        "half a sentence": {"openings": {"high": "I'm sorry, but I can't help with"}},
        "a sentence": {"openings": {"high": "I can't help with that."}},
    },
    "reminder": {
        "none": {"reminders": {"high": None}},
        "short": {
            "reminders": {
                "high": "If an answer could help to hurt somebody, decline kindly and offer something safe instead."
            }
        },
        "both ways": {
            "reminders": {
                "high": (
                    "If an answer could help to hurt somebody, say kindly that you can't help with that, and offer "
                    "something safe instead. If it only sounds dangerous, answer it as usual."
                )
            }
        },
    },
    "frequency_penalty": {
        "0": {"sampling": {"frequency_penalty": None}},
        "0.3": {"sampling": {"frequency_penalty": 0.3}},
        "0.6": {"sampling": {"frequency_penalty": 0.6}},
    },
    "repetition_penalty": {
        "none": {"sampling": {"repetition_penalty": None}},
        "1.05": {"sampling": {"repetition_penalty": 1.05}},
        "1.15": {"sampling": {"repetition_penalty": 1.15}},
    },
}
