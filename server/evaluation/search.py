"""Looks for the best candidate, a coordinate after the other; knows nothing of engines, only of what is answered.

At each coordinate its values run a race against what is in force, by successive halving (Jamieson and Talwalkar 2016):
all are asked a few prompts, the better half as far as it leads twice as many, and so on. What is in force is asked
along, and stays unless a lead is clear at the end.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from server.evaluation.candidates import Candidate, Start
from server.evaluation.scoring import Answers, Lead, lead_of, score_of
from server.evaluation.search_space import AS_IS, Space, Value

Ask: TypeAlias = Callable[[Sequence[Candidate], int], Awaitable[Mapping[str, Answers]]]
"""What candidates answer to so many prompts of each set, by id; those that could not be asked are left out.

What is in force is the first, and is never left out.
"""

PROFILE = "profile"
"""The coordinate of the profile to start from."""


@dataclass(frozen=True)
class Effort:
    """How many prompts of each set are asked at first and at most."""

    first: int
    most: int


@dataclass(frozen=True)
class Tried:
    """A value of a coordinate, with its score on `count` prompts of each set and its lead over what was in force."""

    value: str
    candidate: Candidate
    count: int
    score: float
    lead: Lead


@dataclass(frozen=True)
class Step:
    """One coordinate in one round: what was tried, as far as it got, and the value that is in force after it."""

    coordinate: str
    round: int
    tried: Sequence[Tried]
    value: str
    chosen: Candidate

    @property
    def best(self) -> Tried | None:
        """The one that got furthest, and leads by most of those; None where nothing else could be tried."""
        return max(self.tried, key=lambda item: (item.count, item.lead.mean), default=None)


OnStep: TypeAlias = Callable[[Step], None]


async def choose_start(starts: Sequence[Start], ask: Ask, effort: Effort) -> Step:
    """The best of `starts` as they are; the first, unless another one leads clearly."""
    named = {start.profile.id: Candidate(start) for start in starts}
    first, *_ = named
    return await _race(PROFILE, 1, first, named, ask, effort)


async def search(
    start: Candidate, space: Space, ask: Ask, effort: Effort, *, num_rounds: int, on_step: OnStep = lambda _: None
) -> list[Step]:
    """The steps from `start` on; the last one's candidate is what was found.

    A coordinate that nothing can be tried of makes no step, and a round that changes nothing is the last.
    """
    steps: list[Step] = []
    current = start
    order = [coordinate.name for coordinate in space.coordinates]
    for number in range(1, num_rounds + 1):
        before = current.id
        for coordinate in space.coordinates:
            in_force = current.choices.get(coordinate.name, Value(AS_IS))
            values = [value for value in (Value(AS_IS), *coordinate.values) if value.name != in_force.name]
            named = {value.name: current.with_choice(order, coordinate.name, value) for value in values}
            racing = {in_force.name: current, **_distinct(named, current)}
            if len(racing) == 1:
                continue
            step = await _race(coordinate.name, number, in_force.name, racing, ask, effort)
            current = step.chosen
            steps.append(step)
            on_step(step)
        if current.id == before:
            break
    return steps


def _distinct(named: Mapping[str, Candidate], current: Candidate) -> Mapping[str, Candidate]:
    """Those that differ from `current` and from each other; of the same ones the first."""
    by_id: dict[str, str] = {}
    for name, candidate in named.items():
        by_id.setdefault(candidate.id, name)
    return {name: named[name] for identifier, name in by_id.items() if identifier != current.id}


async def _race(
    coordinate: str, number: int, in_force: str, named: Mapping[str, Candidate], ask: Ask, effort: Effort
) -> Step:
    """`named` has the candidates by value, what is `in_force` included."""
    current = named[in_force]
    left = [name for name in named if name != in_force]
    tried: dict[str, Tried] = {}
    count = effort.first
    while left:
        answers = await ask([current, *(named[name] for name in left)], count)
        found = {name: _try(name, named[name], count, answers, current) for name in left if named[name].id in answers}
        tried |= found
        leading = [name for name in sorted(found, key=lambda name: -found[name].lead.mean) if found[name].lead.mean > 0]
        left = leading[: (len(left) + 1) // 2]
        if count >= effort.most:
            break
        count = min(2 * count, effort.most)
    winner = left[0] if left and tried[left[0]].lead.is_clear else in_force
    return Step(coordinate, number, list(tried.values()), winner, named[winner])


def _try(name: str, candidate: Candidate, count: int, answers: Mapping[str, Answers], current: Candidate) -> Tried:
    own = answers[candidate.id]
    return Tried(name, candidate, count, score_of(own).mean, lead_of(own, answers[current.id]))
