import pytest

from server.core.errors import InvalidRequestError, OverrideError, RequestError, UnknownProfileError
from server.core.types import Body, Placement
from server.profiles.resolve import Resolved, resolve
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS

PROFILES = load_profiles(PROMPTS)


def resolved(body: Body, **headers: str) -> Resolved:
    return resolve(body, {name.replace("_", "-"): value for name, value in headers.items()}, PROFILES, "default")


def test_the_default_applies_where_nothing_is_asked() -> None:
    result = resolved({"model": "m"})
    assert (result.profile.id, result.body, result.wants_trace) == ("default", {"model": "m"}, False)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"model": "m:base"}, {}),
        ({"model": "m"}, {"x_alignment_profile": "base"}),
        ({"model": "m", "alignment": {"profile": "base"}}, {}),
        ({"model": "m:base", "alignment": {"profile": "base"}}, {"x_alignment_profile": "base"}),
    ],
)
def test_a_profile_is_chosen_in_three_ways(body: Body, headers: dict[str, str]) -> None:
    result = resolved(body, **headers)
    assert (result.profile.id, result.body) == ("base", {"model": "m"})


@pytest.mark.parametrize("model", ["llama3:8b", "ft:gpt:org::id", ":off", "off", ""])
def test_a_colon_that_names_no_profile_belongs_to_the_model(model: str) -> None:
    assert resolved({"model": model}).body["model"] == model


def test_only_the_last_suffix_is_taken_off() -> None:
    assert resolved({"model": "m:off:base"}).body["model"] == "m:off"


def test_ways_that_differ_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="'off'.*'base'"):
        resolved({"model": "m:base", "alignment": {"profile": "off"}})


@pytest.mark.parametrize(
    ("body", "headers", "param"),
    [
        ({"alignment": {"profile": "x"}}, {}, "alignment.profile"),
        ({}, {"x_alignment_profile": "x"}, "x-alignment-profile"),
    ],
)
def test_an_unknown_profile_is_named_with_the_known_ones(body: Body, headers: dict[str, str], param: str) -> None:
    with pytest.raises(UnknownProfileError, match="'x'.*base, default, off") as caught:
        resolved(body, **headers)
    assert caught.value.param == param


def test_overrides_replace_what_the_profile_allows() -> None:
    options = {"num_demonstrations": 1, "placement": "system", "budget_tokens": 50, "trace": True}
    result = resolved({"alignment": options})
    assert result.profile.retrieval.num_demonstrations == 1
    assert result.profile.retrieval.budget_tokens == 50
    assert result.profile.retrieval.quotas == PROFILES["default"].retrieval.quotas
    assert result.profile.placement is Placement.SYSTEM
    assert result.wants_trace
    assert result.overrides == {"num_demonstrations": 1, "placement": "system", "budget_tokens": 50}


def test_other_overrides_are_refused() -> None:
    with pytest.raises(OverrideError, match="does not let a request override placement") as caught:
        resolved({"alignment": {"profile": "base", "placement": "turns"}})
    assert caught.value.param == "alignment.placement"


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("base", "alignment"),
        ([], "alignment"),
        ({"profil": "base"}, "alignment.profil"),
        ({"num_demonstrations": -1}, "alignment.num_demonstrations"),
        ({"placement": "middle"}, "alignment.placement"),
    ],
)
def test_a_malformed_field_is_named(value: object, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolved({"alignment": value})
    assert caught.value.param == param
