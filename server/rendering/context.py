"""What a template sees: the selection and the client's text as plain values, all of it sanitised."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from jinja2 import Template, TemplateRuntimeError

from server.core.errors import Finding, PromptFilesError
from server.core.types import Demonstration, Exchange, Principle, Profile, Route, Scored, Selection
from server.rendering.environment import line_of
from server.rendering.sanitise import FENCE, Sanitiser

# How many times over a template may write what it is given.
_MAX_GROWTH = 8
# What a template sees that a request may come without.
_OPTIONAL = ("principles", "retrieved_principles", "demonstrations", "system", "exchanges", "reminder")


def demonstrated(selection: Selection) -> list[Exchange]:
    """Pinned demonstrations first, since they are constant; then the retrieved ones, in the profile's order."""
    items: Iterable[Demonstration] = (*selection.pinned, *(scored.item for scored in selection.demonstrations))
    return [exchange for item in items for exchange in item.exchanges]


def render(
    template: Template,
    profile: Profile,
    selection: Selection,
    sanitiser: Sanitiser,
    *,
    demonstrations: Sequence[Exchange],
    system: str,
    exchanges: Sequence[Exchange] = (),
    question: str = "",
    reminder: str = "",
) -> str:
    """The template's text. Raises PromptFilesError where the template itself fails."""
    given = {
        "principles": [_principle(item, sanitiser) for item in selection.principles],
        "retrieved_principles": [_principle(scored.item, sanitiser) for scored in selection.retrieved_principles],
        "demonstrations": [_exchange(item, sanitiser) for item in demonstrations],
        "system": sanitiser.fenced(system),
        "exchanges": [_exchange(item, sanitiser) for item in exchanges],
        "question": sanitiser.fenced(question),
        "reminder": sanitiser.fenced(reminder),
        "fence": FENCE,
    }
    texts = list(_texts(given))
    limit_chars = _MAX_GROWTH * sum(map(len, texts)) + len(profile.template) * (len(texts) + 1)
    try:
        return "".join(_limited(template.generate(given), limit_chars))
    except Exception as error:  # what an expression may raise depends on the template
        mend = "correct the expression at this line"
        found = Finding(f"templates/{profile.template_id}.jinja", line_of(error, template), "", str(error), mend)
        raise PromptFilesError([found]) from error


def check_template(profile: Profile, template: Template) -> None:
    """Render with and without each part, so that a fault shows when it is loaded. Raises PromptFilesError."""
    if not _sample(profile, template, frozenset()).strip():
        shown, mend = f"templates/{profile.template_id}.jinja", "write the prompt's text"
        raise PromptFilesError([Finding(shown, 0, "", "writes nothing, whatever it is given", mend)])
    for count in range(1, len(_OPTIONAL) + 1):
        for absent in combinations(_OPTIONAL, count):
            try:
                _sample(profile, template, frozenset(absent))
            except PromptFilesError as error:
                found = error.findings[0]
                why = f"{found.message}, where a request has no {' or '.join(absent)}"
                raise PromptFilesError([replace(found, message=why, mend="write {% if %} around it")]) from error


def _sample(profile: Profile, template: Template, absent: frozenset[str]) -> str:
    """The text for one of everything, save the parts that are `absent`."""
    principle = Principle("a", "a principle", "", 1.0, "helpful", False, frozenset(Route), "")
    scoped = replace(principle, scope={"product": ("one", "two"), "region": ("three",)})
    principles = () if "principles" in absent else (principle, scoped)
    retrieved = () if "retrieved_principles" in absent else (Scored(principle, 0.0), Scored(scoped, 0.0))
    exchange = Exchange("a message", "an answer")
    return render(
        template,
        profile,
        Selection(0.0, Route.LOW, principles, retrieved, (), ()),
        Sanitiser(),
        demonstrations=[] if "demonstrations" in absent else [exchange],
        system="" if "system" in absent else "a setting",
        exchanges=[] if "exchanges" in absent else [exchange],
        question="a question",
        reminder="" if "reminder" in absent else "a reminder",
    )


def _limited(chunks: Iterable[str], limit_chars: int) -> Iterator[str]:
    for chunk in chunks:
        limit_chars -= len(chunk)
        if limit_chars < 0:
            raise TemplateRuntimeError(f"writes more than {_MAX_GROWTH} times what it is given")
        yield chunk


def _texts(value: Any) -> Iterator[str]:
    """Every text in `value`, be it in lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _principle(item: Principle, sanitiser: Sanitiser) -> Mapping[str, Any]:
    shown = {"id": item.id, "text": sanitiser.fenced(item.text), "weight": item.weight, "aspect": item.aspect}
    return {**shown, "scope": {dimension: list(values) for dimension, values in item.scope.items()}}


def _exchange(item: Exchange, sanitiser: Sanitiser) -> Mapping[str, str]:
    return {"user": sanitiser.fenced(item.user), "assistant": sanitiser.fenced(item.assistant)}
