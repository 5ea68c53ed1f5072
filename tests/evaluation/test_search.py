"""The search over outcomes made up: what a candidate is worth is known, and so is what it is asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from server.evaluation.candidates import Candidate, Start, load_starts
from server.evaluation.scoring import Answers
from server.evaluation.search import Effort, choose_start, search
from server.evaluation.search_space import AS_IS, Coordinate, Space, Value
from tests.conftest import PROMPTS

pytestmark = pytest.mark.anyio
Skill = Callable[[Candidate], float]
EFFORT = Effort(first=10, most=40)


class Asked:
    """Each candidate refuses as large a share of harmful prompts as `skill` says, evenly spread; `broken` ones fail."""

    def __init__(self, skill: Skill, broken: frozenset[str] = frozenset()) -> None:
        self._skill = skill
        self._broken = broken
        self.calls: list[tuple[tuple[str, ...], int]] = []

    async def __call__(self, candidates: Sequence[Candidate], count: int) -> Mapping[str, Answers]:
        names = tuple("+".join(item.name for item in one.choices.values()) for one in candidates)
        self.calls.append((names, count))
        return {one.id: self._answers(one, count) for one in candidates if not self._broken & set(_names(one))}

    def _answers(self, candidate: Candidate, count: int) -> Answers:
        skill = self._skill(candidate)
        refused = {str(number): float(number % 10 < round(10 * skill)) for number in range(count)}
        ones = dict.fromkeys(refused, 1.0)
        return Answers(refused, ones, dict.fromkeys(refused, 0.0), ones)


def _names(candidate: Candidate) -> list[str]:
    return [value.name for value in candidate.choices.values()]


def coordinate(name: str, *values: str) -> Coordinate:
    """Each value sets a field of its own."""
    return Coordinate(name, [Value(value, {"sampling": {name: value}}) for value in values])


def by_value(**skills: float) -> Skill:
    """The sum of what the chosen values add to 0.2."""
    return lambda candidate: 0.2 + sum(skills.get(name, 0) for name in _names(candidate))


@pytest.fixture(scope="module")
def starts() -> Sequence[Start]:
    return load_starts(PROMPTS, ["base", "default", "company"])


async def test_the_best_values_are_found_together(starts: Sequence[Start]) -> None:
    space = Space([coordinate("x", "a", "b", "c"), coordinate("y", "d", "e")])
    ask = Asked(by_value(a=0.2, b=0.4, c=-0.2, d=0, e=0.3))
    steps = await search(Candidate(starts[0]), space, ask, EFFORT, num_rounds=1)
    assert [(step.coordinate, step.value) for step in steps] == [("x", "b"), ("y", "e")]
    assert steps[-1].chosen.patch == {"sampling": {"x": "b", "y": "e"}}
    assert steps[0].best is not None
    assert (steps[0].best.value, steps[0].best.count) == ("b", 40)


async def test_the_leading_half_is_asked_twice_as_much(starts: Sequence[Start]) -> None:
    ask = Asked(by_value(a=0.1, b=0.2, c=0.3, d=0.4, e=0, f=-0.1))
    await search(Candidate(starts[0]), Space([coordinate("x", *"abcdef")]), ask, EFFORT, num_rounds=1)
    assert ask.calls == [
        (("", "a", "b", "c", "d", "e", "f"), 10),
        (("", "d", "c", "b"), 20),
        (("", "d", "c"), 40),
    ]


async def test_ties_keep_what_is_in_force(starts: Sequence[Start]) -> None:
    ask = Asked(by_value(a=0, b=0))
    (step,) = await search(Candidate(starts[0]), Space([coordinate("x", "a", "b")]), ask, EFFORT, num_rounds=1)
    assert (step.value, step.chosen) == (AS_IS, Candidate(starts[0]))
    assert ask.calls == [(("", "a", "b"), 10)]


async def test_a_lead_within_chance_keeps_what_is_in_force(starts: Sequence[Start]) -> None:
    ask = Asked(by_value())
    original = ask._answers

    def lucky(candidate: Candidate, count: int) -> Answers:
        """One prompt more of however many: a lead by chance."""
        answers = original(candidate, count)
        return replace(answers, refused={**answers.refused, "5": float("a" in _names(candidate))})

    ask._answers = lucky  # type: ignore[method-assign]  # for this test alone
    (step,) = await search(Candidate(starts[0]), Space([coordinate("x", "a")]), ask, EFFORT, num_rounds=1)
    assert ask.calls[-1] == (("", "a"), 40)
    assert step.best is not None
    assert step.best.lead.mean > 0
    assert not step.best.lead.is_clear
    assert step.value == AS_IS


async def test_a_round_that_changes_nothing_is_the_last(starts: Sequence[Start]) -> None:
    space = Space([coordinate("x", "a"), coordinate("y", "b")])

    def skill(candidate: Candidate) -> float:
        """`a` is good beside `b` alone."""
        return {(): 0.2, ("a",): 0.1, ("b",): 0.5, ("a", "b"): 0.9}[tuple(n for n in _names(candidate) if n != AS_IS)]

    steps = await search(Candidate(starts[0]), space, Asked(skill), EFFORT, num_rounds=5)
    assert [(step.round, step.coordinate, step.value) for step in steps] == [
        (1, "x", AS_IS),
        (1, "y", "b"),
        (2, "x", "a"),
        (2, "y", "b"),
        (3, "x", "a"),
        (3, "y", "b"),
    ]


async def test_what_is_the_same_is_asked_once(starts: Sequence[Start]) -> None:
    same = Value("same", {"retrieval": {"num_demonstrations": starts[0].profile.retrieval.num_demonstrations}})
    twice = Coordinate("x", [Value(name, {"sampling": {"x": 1}}) for name in ("a", "b")])
    space = Space([Coordinate("k", [same]), twice])
    ask = Asked(by_value(a=-0.1))
    (step,) = await search(Candidate(starts[0]), space, ask, EFFORT, num_rounds=1)
    assert step.coordinate == "x"
    assert ask.calls == [(("", "a"), 10)]


async def test_what_cannot_be_asked_is_not_taken(starts: Sequence[Start]) -> None:
    ask = Asked(by_value(a=0.1, b=0.8), broken=frozenset("b"))
    (step,) = await search(Candidate(starts[0]), Space([coordinate("x", "a", "b")]), ask, EFFORT, num_rounds=1)
    assert step.value == "a"
    assert [item.value for item in step.tried] == ["a"]


async def test_the_best_of_several_profiles_is_gone_on_with(starts: Sequence[Start]) -> None:
    skills = {"base": 0.3, "default": 0.7, "company": 0.6}
    step = await choose_start(starts, Asked(lambda one: skills[one.start.profile.id]), EFFORT)
    assert (step.coordinate, step.value, step.chosen) == ("profile", "default", Candidate(starts[1]))
    step = await choose_start(starts, Asked(by_value()), EFFORT)
    assert step.value == "base"
