from dataclasses import replace

import pytest

from server.core.errors import ForbiddenError, InvalidRequestError, OverrideError, RequestError, UnknownProfileError
from server.core.types import Body, Caller, Order, Placement
from server.profiles.resolve import Profiles, Resolved, default_for, may_ask, resolve, resolve_plain
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS

PROFILES = Profiles(load_profiles(PROMPTS))


def resolved(body: Body, **headers: str) -> Resolved:
    caller = Caller({name.replace("_", "-"): value for name, value in headers.items()})
    result = resolve(body, caller, PROFILES, "default")
    assert result is not None
    return result


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
    with pytest.raises(UnknownProfileError, match="'x'.*base, .*default, .*off") as caught:
        resolved(body, **headers)
    assert caught.value.param == param


def test_overrides_replace_what_the_profile_allows() -> None:
    options = {"num_demonstrations": 1, "placement": "system", "budget_tokens": 50, "trace": True}
    result = resolved({"alignment": options})
    assert result.profile.retrieval.num_demonstrations == 1
    assert result.profile.retrieval.budget_tokens == 50
    assert result.profile.retrieval.quotas == PROFILES.current["default"].retrieval.quotas
    assert result.profile.placement is Placement.SYSTEM
    assert result.wants_trace
    assert result.overrides == {"num_demonstrations": 1, "placement": "system", "budget_tokens": 50}


def test_the_order_is_overridden_where_the_profile_lets_it() -> None:
    default = PROFILES.current["default"]
    profiles = Profiles({"default": replace(default, overridable=default.overridable | {"order"})})
    found = resolve({"alignment": {"order": "canonical"}}, Caller(), profiles, "default")
    assert found is not None
    assert found.profile.retrieval == replace(default.retrieval, order=Order.CANONICAL)
    with pytest.raises(OverrideError, match="override order"):
        resolved({"alignment": {"order": "canonical"}})
    with pytest.raises(InvalidRequestError, match=r"alignment\.order"):
        resolved({"alignment": {"order": "random"}})


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


def test_without_a_default_nothing_applies_unless_it_is_asked_for() -> None:
    assert resolve({"model": "m"}, Caller(), PROFILES, None) is None
    asked = resolve({"model": "m:base"}, Caller(), PROFILES, None)
    assert asked is not None
    assert asked.profile.id == "base"
    with pytest.raises(InvalidRequestError, match="unless a profile is named") as caught:
        resolve({"alignment": {"trace": True}}, Caller(), PROFILES, None)
    assert caught.value.param == "alignment.trace"


def test_a_bound_caller_gets_its_own_profiles_only() -> None:
    caller = Caller(profiles=("base", "off"))
    assert default_for(caller, "default") == "base"
    assert default_for(caller, "off") == "off"
    with pytest.raises(ForbiddenError, match="'default'.*base, off") as caught:
        resolve({"model": "m:default"}, caller, PROFILES, "base")
    assert caught.value.param == "model"
    with pytest.raises(ForbiddenError, match="as they are") as overridden:
        resolve({"alignment": {"num_demonstrations": 0}}, caller, PROFILES, "base")
    assert overridden.value.param == "alignment.num_demonstrations"
    with pytest.raises(ForbiddenError):
        resolve_plain({"model": "m:off"}, Caller(profiles=("base",)), PROFILES)
    with pytest.raises(UnknownProfileError, match="Known are: base, off"):
        resolve({"alignment": {"profile": "x"}}, caller, PROFILES, "base")


@pytest.mark.parametrize("model", [5, {"a": 1}, "m" * 600])
def test_a_malformed_model_is_the_engines_business_where_nothing_is_aligned(model: object) -> None:
    off = {"x-alignment-profile": "off"}
    result = resolve({"model": model}, Caller(off), PROFILES, "default")
    assert result is not None
    assert result.body == {"model": model}
    with pytest.raises(InvalidRequestError):
        resolve({"model": model}, Caller(), PROFILES, "default")


def with_versions() -> tuple[Profiles, str, str]:
    """Profiles of which `default` has another version in force than before; the labels of both."""
    old = PROFILES.current["default"]
    new = replace(old, version="0" * 12)
    current = {**PROFILES.current, "default": new}
    return Profiles(current, {item.label: item for item in (old, *current.values())}), old.label, new.label


@pytest.mark.parametrize("way", ["model", "header", "field"])
def test_a_version_is_asked_for_in_three_ways(way: str) -> None:
    profiles, old, new = with_versions()
    for label in (old, new, "default"):
        body: Body = {"model": f"m:{label}"} if way == "model" else {"model": "m"}
        body |= {"alignment": {"profile": label}} if way == "field" else {}
        headers = {"x-alignment-profile": label} if way == "header" else {}
        found = resolve(body, Caller(headers), profiles, "base")
        assert found is not None
        assert (found.profile.label, found.body) == (new if label == "default" else label, {"model": "m"})


def test_an_unknown_version_is_told_with_the_known_ones() -> None:
    profiles, old, new = with_versions()
    with pytest.raises(UnknownProfileError, match=f"'default@x'. Known are: {old}, {new}.") as caught:
        resolve({"model": "m:default@x"}, Caller(), profiles, "base")
    assert caught.value.param == "model"
    with pytest.raises(UnknownProfileError, match="'none@x'. Known are: base, company"):
        resolve({"alignment": {"profile": "none@x"}}, Caller(), profiles, "base")
    with pytest.raises(UnknownProfileError, match=f"Known are: {PROFILES.current['base'].label}"):
        resolve({"alignment": {"profile": "base@x"}}, Caller(), PROFILES, "base")


def test_two_versions_of_one_profile_differ() -> None:
    profiles, old, new = with_versions()
    with pytest.raises(InvalidRequestError, match="different profiles"):
        resolve({"model": f"m:{old}", "alignment": {"profile": new}}, Caller(), profiles, "base")


def test_what_a_version_lets_be_overridden_counts() -> None:
    profiles, old, _ = with_versions()
    found = resolve({"alignment": {"profile": old, "num_demonstrations": 1}}, Caller(), profiles, "base")
    assert found is not None
    assert (found.profile.label, found.profile.retrieval.num_demonstrations) == (old, 1)


def test_a_bound_caller_cannot_go_back() -> None:
    profiles, old, new = with_versions()
    caller = Caller(profiles=("default",))
    for name in ("default", new):
        assert resolve({"model": f"m:{name}"}, caller, profiles, "base") is not None
        assert may_ask(name, caller, profiles)
    for name in (old, "default@x", "base", PROFILES.current["base"].label):
        with pytest.raises(ForbiddenError, match="it allows default"):
            resolve({"model": f"m:{name}"}, caller, profiles, "base")
        assert not may_ask(name, caller, profiles)
    assert may_ask(old, Caller(), profiles)
    assert not may_ask("default@x", Caller(), profiles)


@pytest.mark.parametrize("model", ["m:v1@default", "m@default", "@default", "m:@x", "default@x"])
def test_an_at_sign_that_names_no_version_belongs_to_the_model(model: str) -> None:
    assert resolved({"model": model}).body["model"] == model


def test_a_scope_is_overridden_by_dimension() -> None:
    found = resolve({"alignment": {"profile": "company", "scope": {"jurisdiction": "eu"}}}, Caller(), PROFILES, None)
    assert found is not None
    assert found.profile.scope == {"jurisdiction": "eu"}
    with pytest.raises(InvalidRequestError, match="have no dimension 'planet'; they have") as caught:
        resolve({"alignment": {"profile": "company", "scope": {"planet": "mars"}}}, Caller(), PROFILES, None)
    assert caught.value.param == "alignment.scope.planet"
    with pytest.raises(OverrideError):
        resolve({"alignment": {"profile": "default", "scope": {"jurisdiction": "eu"}}}, Caller(), PROFILES, None)
