"""Which profile a request asks for, and what of it the request overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.core.errors import ForbiddenError, InvalidRequestError, OverrideError, UnknownProfileError
from server.core.types import Body, Caller, Placement, Profile, Rendering

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
    placement: Placement | None = None

    def overrides(self) -> dict[str, Any]:
        """What is given beyond the profile's name and the wish for a trace."""
        return self.model_dump(exclude={"profile", "trace"}, exclude_none=True)


@dataclass(frozen=True)
class Resolved:
    """A request with its profile found. `body` is the client's, its model without suffix and `alignment` taken out."""

    profile: Profile
    body: Body
    wants_trace: bool
    overrides: Mapping[str, Any]


def resolve(body: Body, caller: Caller, profiles: Mapping[str, Profile], default: str | None) -> Resolved | None:
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
    profile = _override(profiles[name], options.overrides())
    if profile.rendering is not Rendering.NONE:
        _check_model(body)
    return Resolved(profile, _without_choice(body, profiles), options.trace, options.overrides())


def default_for(caller: Caller, default: str) -> str:
    """The profile of requests that name none: the server's, unless the caller is bound to others."""
    return default if caller.profiles is None or default in caller.profiles else caller.profiles[0]


def resolve_plain(body: Body, caller: Caller, profiles: Mapping[str, Profile]) -> Body:
    """`body` as the engine gets it at an endpoint that is not aligned.

    A profile that adds nothing may be named there. Raises InvalidRequestError for any other, so that no one takes an
    answer for aligned that is not.
    """
    for param, name in _asked(body, caller.headers, profiles, parse_options(body.get("alignment"))).items():
        _check_allowed(name, param, caller, profiles)
        if profiles[name].rendering is not Rendering.NONE:
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


def split_model(model: Any, profiles: Mapping[str, Profile]) -> tuple[str | None, str | None]:
    """`name:profile` into its parts where the last part is a profile; any other model name stays whole."""
    if not isinstance(model, str):
        return None, None
    name, separator, suffix = model.rpartition(":")
    if separator and name and suffix in profiles:
        return name, suffix
    return model, None


def _asked(
    body: Body, headers: Mapping[str, str], profiles: Mapping[str, Profile], options: AlignmentOptions
) -> dict[str, str]:
    """The profile that each way of choosing names, by the field or header that names it."""
    asked = {
        "alignment.profile": options.profile,
        PROFILE_HEADER: headers.get(PROFILE_HEADER),
        "model": split_model(body.get("model"), profiles)[1],
    }
    return {param: name for param, name in asked.items() if name is not None}


def _without_choice(body: Body, profiles: Mapping[str, Profile]) -> Body:
    kept = {field: value for field, value in body.items() if field != "alignment"}
    model, suffix = split_model(body.get("model"), profiles)
    return kept | {"model": model} if suffix is not None else kept


def _check_model(body: Body) -> None:
    model = body.get("model")
    if model is not None and (not isinstance(model, str) or len(model) > _MAX_NAME_CHARS):
        raise InvalidRequestError(f"model must be a string of at most {_MAX_NAME_CHARS} characters.", param="model")


def _check_allowed(name: str, param: str, caller: Caller, profiles: Mapping[str, Profile]) -> None:
    known = sorted(profiles) if caller.profiles is None else caller.profiles
    if name not in profiles:
        raise UnknownProfileError(name, known, param=param)
    if name not in known:
        raise ForbiddenError(f"This key does not allow profile {name!r}; it allows {', '.join(known)}.", param=param)


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
    placement = overrides.get("placement", profile.placement)
    retrieval = replace(profile.retrieval, **{name: value for name, value in overrides.items() if name != "placement"})
    return replace(profile, placement=placement, retrieval=retrieval)
