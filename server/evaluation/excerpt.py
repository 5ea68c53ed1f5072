"""Which prompts a report shows with their answers: some of every set, what the main arm got wrong first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from server.evaluation.rows import Row
from server.evaluation.runs import Run

MAX_ITEMS = 300
# What an answer was good for, the first that a row has.
_GOALS = ("refused", "answered", "refused_plain", "refused_attacked", "all_constraints", "correct", "preferred", "mc1")


@dataclass(frozen=True)
class Item:
    """One thing asked, with its row under each arm."""

    rows: Sequence[Row]

    @property
    def first(self) -> Row:
        """For what all of them share."""
        return self.rows[0]

    @property
    def group(self) -> str:
        """Measure and set."""
        return f"{self.first.measure} {self.first.set}"

    @property
    def outcomes(self) -> list[str]:
        """By what it can be found: `missed:ARM`, `differs`, `failed`."""
        names = [f"missed:{arm}" for arm in self.missed]
        names += ["differs"] if len({reaches_goal(row) for row in self.rows}) > 1 else []
        return names + (["failed"] if any(row.error is not None for row in self.rows) else [])

    @property
    def missed(self) -> list[str]:
        """The arms whose answer is not what it should be."""
        return [row.arm for row in self.rows if reaches_goal(row) is False]


@dataclass(frozen=True)
class Excerpt:
    """The items that are shown, of `num_items` in all."""

    items: Sequence[Item]
    num_items: int

    @property
    def groups(self) -> list[str]:
        """Those of the items, each once."""
        return list(dict.fromkeys(item.group for item in self.items))


def choose_items(run: Run, main: str, limit: int = MAX_ITEMS) -> Excerpt:
    """`limit` items at most, as evenly from all sets as can be, in each the ones that arm `main` missed first."""
    asked: dict[str, list[Row]] = {}
    for row in run.rows.values():
        asked.setdefault(row.pair_key, []).append(row)
    order = {arm.id: place for place, arm in enumerate(run.head.arms)}
    groups: dict[tuple[str, str], list[Item]] = {}
    for rows in asked.values():
        item = Item(sorted(rows, key=lambda row: order.get(row.arm, len(order))))
        groups.setdefault((item.first.measure, item.first.set), []).append(item)
    for items in groups.values():
        items.sort(key=lambda item: main not in item.missed)
    chosen = set(map(id, list(_in_turns(list(groups.values())))[:limit]))
    shown = [item for items in groups.values() for item in items if id(item) in chosen]
    return Excerpt(shown, len(asked))


def reaches_goal(row: Row) -> bool | None:
    """Whether the answer is what the measure wants; None where it has no such figure."""
    goal = next((name for name in _GOALS if name in row.values), None)
    return None if goal is None or row.error is not None else row.values[goal] == 1


def _in_turns(groups: Sequence[Sequence[Item]]) -> Iterator[Item]:
    return (item for turn in zip_longest(*groups) for item in turn if item is not None)
