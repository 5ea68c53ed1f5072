from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.core.types import Risk, Route
from server.evaluation.arms import with_arms
from server.evaluation.candidates import (
    Candidate,
    Start,
    changes_of,
    check_space,
    load_starts,
    merge_patches,
    sweep_arms,
)
from server.evaluation.search_space import Value, load_space
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS

BENCH = Path(__file__).parents[1] / "bench"
K2 = Value("2", {"retrieval": {"num_demonstrations": 2}})
SAME = Value("4", {"retrieval": {"num_demonstrations": 4}, "reminders": {"high": None}})
ALONE = Value("alone", {"retrieval": {"quotas": {"high": {"harmful": 4, "lookalike": None}}}})
ORDER = ["k", "quotas"]


@pytest.fixture(scope="module")
def start() -> Start:
    (found,) = load_starts(PROMPTS, ["base"])
    return found


def test_later_patches_go_over_earlier_ones() -> None:
    one = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge_patches(one, {"a": {"b": None}, "d": {"e": 1}}) == {"a": {"b": None, "c": 2}, "d": {"e": 1}}
    assert one == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_only_changes_are_kept() -> None:
    fields = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert changes_of({"a": {"b": 1, "c": None, "x": None}, "d": [1], "e": {"f": 1}}, fields) == {
        "a": {"c": None},
        "e": {"f": 1},
    }


def test_a_candidate_is_what_it_changes(start: Start) -> None:
    as_it_is = Candidate(start)
    same, changed = (as_it_is.with_choice(ORDER, "k", value) for value in (SAME, K2))
    assert (as_it_is.id, same.id, same.patch, same.arm()) == ("base", "base", {}, as_it_is.arm())
    assert changed.patch == K2.patch
    assert changed.id != "base"
    assert changed.title == "profile base with k 2"
    one = changed.with_choice(ORDER, "quotas", ALONE)
    other = as_it_is.with_choice(ORDER, "quotas", ALONE).with_choice(ORDER, "k", K2)
    assert one == other
    assert list(one.choices) == ORDER


def test_a_candidate_is_a_profile(start: Start) -> None:
    candidate = Candidate(start).with_choice(ORDER, "quotas", ALONE)
    arm = candidate.arm("found")
    with with_arms(PROMPTS, [arm]) as folder:
        profile = load_profiles(folder)[arm.profile]
    assert profile.retrieval.quotas[Route.HIGH] == {Risk.HARMFUL: 4}
    assert profile.retrieval.num_demonstrations == 4


@pytest.mark.parametrize(("name", "words"), [("nobody", "there is no 'nobody'"), ("off", "there is nothing to tune")])
def test_what_cannot_be_a_start_is_told(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"profile: .*{words}"):
        load_starts(PROMPTS, ["base", name])


def test_values_that_make_no_profile_are_told_with_their_place(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "k:\n  2: {retrieval: {num_demonstrations: 2}}\n  many:\n    retrieval:\n      num_demonstrations: 999\n"
        "t: {new: {template: nothing}}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        check_space(PROMPTS, start, load_space(path))
    first, second = str(caught.value).splitlines()
    assert "space.yaml:5: k.many.retrieval.num_demonstrations: Input should be less than or equal to 64" in first
    assert "space.yaml:6: t.new.template: there is no 'nothing'" in second


@pytest.mark.parametrize("profile", ["base", "default"])
@pytest.mark.parametrize("name", ["sweep.yaml", "tune.yaml"])
def test_what_the_shipped_profiles_were_measured_by_still_fits_them(name: str, profile: str) -> None:
    space = load_space(BENCH / name)
    arms = sweep_arms(PROMPTS, profile, space)
    assert len({arm.id for arm in arms}) == len(arms) == sum(len(item.values) for item in space.coordinates)
