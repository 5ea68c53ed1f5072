"""Which profile a request asks for, and what of it the request overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.core.errors import ForbiddenError, InvalidRequestError, OverrideError, UnknownProfileError
from server.core.types import Body, Caller, Order, Placement, Profile, Rendering
from server.profiles.schema import Slug
from server.profiles.store import known_dimensions

_MAX_NAME_CHARS = 512
PROFILE_HEADER = "x-alignment-profile"


class AlignmentOptions(BaseModel):
    """The body field `alignment`: a profile, whether the answer carries its trace, and overrides of the profile."""

    model_config = ConfigDict(extra="forbid")

    profile: str | None = None
    trace: bool = False
    num_demonstrations: int | None = Field(default=None, ge=0, le=64)
    num_principles: int | None = Field(default=None, ge=0, le=32)
    budget_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    min_similarity: float | None = Field(default=None, ge=-1, le=1)
    order: Order | None = None
    placement: Placement | None = None
    scope: Annotated[dict[Slug, Slug], Field(max_length=16)] | None = None

    def overrides(self) -> dict[str, Any]:
        """What is given beyond the profile's name and the wish for a trace."""
        return self.model_dump(exclude={"profile", "trace"}, exclude_none=True)


@dataclass(frozen=True)
class Profiles:
    """The profiles in force by id, and every version that can still be asked for, theirs included, by `id@version`."""

    current: Mapping[str, Profile]
    kept: Mapping[str, Profile] = field(default_factory=dict)

    def get(self, name: str) -> Profile | None:
        """The profile that an id or `id@version` names."""
        return self.current.get(name) or self.kept.get(name) or self._labelled(name)

    def knows(self, name: str) -> bool:
        """Whether `name` means a profile, be it in a version that is not there."""
        identifier = name.partition("@")[0]
        return identifier in self.current or any(item.id == identifier for item in self.kept.values())

    def versions(self, identifier: str) -> list[str]:
        """What can be asked for of one profile, the latest last."""
        labels = [label for label, item in self.kept.items() if item.id == identifier]
        return labels or [item.label for item in self.current.values() if item.id == identifier]

    def _labelled(self, name: str) -> Profile | None:
        profile = self.current.get(name.partition("@")[0])
        return profile if profile is not None and profile.label == name else None


@dataclass(frozen=True)
class Resolved:
    """A request with its profile found. `body` is the client's, its model without suffix and `alignment` taken out."""

    profile: Profile
    body: Body
    wants_trace: bool
    overrides: Mapping[str, Any]


def resolve(body: Body, caller: Caller, profiles: Profiles, default: str | None) -> Resolved | None:
    """Find the profile by body field, header or model suffix; they may agree but not differ.

    None where the request names no profile and there is no default. Raises InvalidRequestError, UnknownProfileError,
    ForbiddenError or OverrideError.
    """
    options = parse_options(body.get("alignment"))
    param, name = _single(_asked(body, caller.headers, profiles, options), default)
    if name is None:
        _check_nothing_asked(options)
        return None
    _check_allowed(name, param, caller, profiles)
    if caller.profiles is not None and (given := options.overrides()):
        raise ForbiddenError(
            f"A key that is bound to profiles has them as they are; leave out {', '.join(given)}.",
            param=f"alignment.{next(iter(given))}",
        )
    profile = _override(_find(name, param, profiles), options.overrides())
    if profile.rendering is not Rendering.NONE:
        _check_model(body)
    return Resolved(profile, _without_choice(body, profiles), options.trace, options.overrides())


def default_for(caller: Caller, default: str) -> str:
    """The profile of requests that name none: the server's, unless the caller is bound to others."""
    return default if caller.profiles is None or default in caller.profiles else caller.profiles[0]


def resolve_plain(body: Body, caller: Caller, profiles: Profiles) -> Body:
    """`body` as the engine gets it at an endpoint that is not aligned.

    A profile that adds nothing may be named there. Raises InvalidRequestError for any other, so that no one takes an
    answer for aligned that is not.
    """
    for param, name in _asked(body, caller.headers, profiles, parse_options(body.get("alignment"))).items():
        _check_allowed(name, param, caller, profiles)
        if _find(name, param, profiles).rendering is not Rendering.NONE:
            raise InvalidRequestError(
                f"This endpoint is passed to the engine as it is, so profile {name!r} would do nothing here.",
                param=param,
            )
    return _without_choice(body, profiles)


def parse_options(value: Any) -> AlignmentOptions:
    """Check the body field `alignment`; None means all defaults. Raises InvalidRequestError naming the field."""
    if value is None:
        return AlignmentOptions()
    try:
        return AlignmentOptions.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        param = ".".join(("alignment", *(str(part) for part in fault["loc"])))
        raise InvalidRequestError(f"{param}: {fault['msg']}.", param=param) from error


def split_model(model: Any, profiles: Profiles) -> tuple[str | None, str | None]:
    """`name:profile` and `name:profile@version` into their parts; any other model name stays whole."""
    if not isinstance(model, str):
        return None, None
    name, separator, suffix = model.rpartition(":")
    if separator and name and profiles.knows(suffix):
        return name, suffix
    return model, None


def _asked(body: Body, headers: Mapping[str, str], profiles: Profiles, options: AlignmentOptions) -> dict[str, str]:
    """The profile that each way of choosing names, by the field or header that names it."""
    asked = {
        "alignment.profile": options.profile,
        PROFILE_HEADER: headers.get(PROFILE_HEADER),
        "model": split_model(body.get("model"), profiles)[1],
    }
    return {param: name for param, name in asked.items() if name is not None}


def _without_choice(body: Body, profiles: Profiles) -> Body:
    kept = {field: value for field, value in body.items() if field != "alignment"}
    model, suffix = split_model(body.get("model"), profiles)
    return kept | {"model": model} if suffix is not None else kept


def _check_model(body: Body) -> None:
    model = body.get("model")
    if model is not None and (not isinstance(model, str) or len(model) > _MAX_NAME_CHARS):
        raise InvalidRequestError(f"model must be a string of at most {_MAX_NAME_CHARS} characters.", param="model")


def may_ask(name: str, caller: Caller, profiles: Profiles) -> bool:
    """Whether `caller` gets the profile, or version of it, that `name` means."""
    return profiles.get(name) is not None and _is_allowed(name, caller, profiles)


def _is_allowed(name: str, caller: Caller, profiles: Profiles) -> bool:
    """A key that is bound to profiles may ask for them, but not for what they were before."""
    if caller.profiles is None:
        return True
    in_force = [profiles.current[item].label for item in caller.profiles if item in profiles.current]
    return name in {*caller.profiles, *in_force}


def _check_allowed(name: str, param: str, caller: Caller, profiles: Profiles) -> None:
    if not profiles.knows(name):
        raise UnknownProfileError(name, sorted(caller.profiles or profiles.current), param=param)
    if caller.profiles is not None and not _is_allowed(name, caller, profiles):
        shown = ", ".join(caller.profiles)
        raise ForbiddenError(f"This key does not allow profile {name!r}; it allows {shown}.", param=param)


def _find(name: str, param: str, profiles: Profiles) -> Profile:
    profile = profiles.get(name)
    if profile is None:
        raise UnknownProfileError(name, profiles.versions(name.partition("@")[0]), param=param)
    return profile


def _check_nothing_asked(options: AlignmentOptions) -> None:
    if given := options.model_fields_set - {"profile"}:
        raise InvalidRequestError(
            "Completions are not aligned unless a profile is named; name one in alignment.profile.",
            param=f"alignment.{min(given)}",
        )


def _single(asked: Mapping[str, str], default: str | None) -> tuple[str, str | None]:
    if len(set(asked.values())) > 1:
        shown = ", ".join(f"{param} asks for {name!r}" for param, name in asked.items())
        raise InvalidRequestError(f"The request names different profiles: {shown}. Name one.", param=next(iter(asked)))
    return next(iter(asked.items()), ("model", default))


def _override(profile: Profile, overrides: Mapping[str, Any]) -> Profile:
    for name in overrides:
        if name not in profile.overridable:
            allowed = ", ".join(sorted(profile.overridable)) or "nothing"
            raise OverrideError(
                f"Profile {profile.id!r} does not let a request override {name}; it allows {allowed}.",
                param=f"alignment.{name}",
            )
    changed = {field: overrides[field] for field in ("placement", "scope") if field in overrides}
    if "scope" in changed:
        changed["scope"] = _scope(profile, changed["scope"])
    retrieval = {name: value for name, value in overrides.items() if name not in changed}
    return replace(profile, retrieval=replace(profile.retrieval, **retrieval), **changed)


def _scope(profile: Profile, given: Mapping[str, str]) -> Mapping[str, str]:
    known = known_dimensions(profile.constitution.principles)
    if unknown := sorted(given.keys() - known):
        raise InvalidRequestError(
            f"The principles of profile {profile.id!r} have no dimension {unknown[0]!r}; "
            f"they have {', '.join(sorted(known)) or 'none'}.",
            param=f"alignment.scope.{unknown[0]}",
        )
    return {**profile.scope, **given}
