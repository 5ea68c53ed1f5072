"""Lets alignment give way where a prompt does not fit: what was retrieved goes first, the constitution last.

A reminder goes with the constitution, after its principles. An item here that is a text is the reminder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from server.core.types import Demonstration, Part, Principle, Profile, Selection

# What stands around a principle or a reminder.
_LINE_OVERHEAD_TOKENS = 4

Count = Callable[[str], int]
Item: TypeAlias = Demonstration | Principle | str


@dataclass(frozen=True)
class Fitted:
    """A selection that has given way, with the ids of what it lost; a reminder goes by its route."""

    selection: Selection
    demonstrations: tuple[str, ...] = ()
    principles: tuple[str, ...] = ()
    reminders: tuple[str, ...] = ()


def fit(selection: Selection, profile: Profile, excess_tokens: int, count: Count) -> Fitted:
    """Drop items, the least wanted first, until they make up `excess_tokens` or none that may go is left.

    Of the retrieved, demonstrations go before principles, the least similar first; of the constitution, the principles
    of least weight.
    """
    fitted = Fitted(selection)
    for item in _dispensable(selection, profile):
        if excess_tokens <= 0:
            break
        excess_tokens -= _num_tokens(item, count)
        fitted = _without(fitted, item)
    return fitted


def shed(selection: Selection, profile: Profile) -> Fitted | None:
    """Drop the first part that has anything in it; None where nothing that may go is left."""
    for part in Part:
        items = [item for item in _items(selection, part) if part in profile.shrinks]
        if items:
            fitted = Fitted(selection)
            for item in items:
                fitted = _without(fitted, item)
            return fitted
    return None


def _dispensable(selection: Selection, profile: Profile) -> Iterator[Item]:
    for part in Part:
        if part in profile.shrinks:
            yield from _items(selection, part)


def _items(selection: Selection, part: Part) -> list[Item]:
    if part is Part.RETRIEVED:
        demonstrations = sorted(selection.demonstrations, key=lambda scored: scored.similarity)
        principles = sorted(selection.retrieved_principles, key=lambda scored: scored.similarity)
        return [*(scored.item for scored in demonstrations), *(scored.item for scored in principles)]
    if part is Part.PINNED:
        return list(selection.pinned[::-1])
    last_first: list[Principle] = sorted(selection.principles[::-1], key=lambda item: item.weight)  # noqa: C415 - stable
    return [*last_first, *([selection.reminder] if selection.reminder else [])]


def _num_tokens(item: Item, count: Count) -> int:
    if isinstance(item, Principle | str):
        return count(item if isinstance(item, str) else item.text) + _LINE_OVERHEAD_TOKENS
    return item.num_tokens(count)


def _without(fitted: Fitted, item: Item) -> Fitted:
    old = fitted.selection
    if isinstance(item, str):
        return replace(fitted, selection=replace(old, reminder=""), reminders=(*fitted.reminders, old.route.value))
    if isinstance(item, Principle):
        selection = replace(
            old,
            principles=tuple(kept for kept in old.principles if kept is not item),
            retrieved_principles=tuple(kept for kept in old.retrieved_principles if kept.item is not item),
        )
        return replace(fitted, selection=selection, principles=(*fitted.principles, item.id))
    selection = replace(
        old,
        pinned=tuple(kept for kept in old.pinned if kept is not item),
        demonstrations=tuple(kept for kept in old.demonstrations if kept.item is not item),
    )
    return replace(fitted, selection=selection, demonstrations=(*fitted.demonstrations, item.id))
