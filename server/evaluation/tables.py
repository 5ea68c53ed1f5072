"""Tables of figures by arm, as text with intervals: what the report shows, and what the terminal does."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from server.evaluation.comparison import Difference, Group, Measured, first_by_label
from server.evaluation.measures.base import Figure, Unit
from server.evaluation.statistics import Estimate, estimate

BETTER, WORSE = "better", "worse"
_MINUS = "−"  # noqa: RUF001 - a minus sign is as wide as a plus sign


@dataclass(frozen=True)
class Cell:
    """A number with its interval; `tone` is BETTER, WORSE, or nothing, and `note` says on how many it rests."""

    text: str = ""
    interval: str = ""
    tone: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """Where the numbers of a column come from. By default, the mean of `figure` over `group`."""

    title: str
    figure: Figure
    group: Group


@dataclass(frozen=True)
class Table:
    """`columns` have a title and a note each, and `rows` a name and a cell for each column."""

    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    note: str = ""


def columns_by_set(measured: Measured, measure: str, figure: Figure) -> list[Column]:
    """One for each set, and for all of a label."""
    return [Column(group.title, figure, group) for group in measured.groups(measure, figure.name)]


def columns_by_figure(measured: Measured, measure: str, figures: Sequence[Figure]) -> list[Column]:
    """One for each of `figures` and each label that there is, over all of the label's sets."""
    return [
        Column(figure.title, figure, group)
        for figure in figures
        for group in first_by_label(measured.groups(measure, figure.name))
    ]


def table_of(title: str, arms: Sequence[str], columns: Sequence[Column], measured: Measured) -> Table:
    """The means with their intervals, an arm a row."""
    made = [
        (column.title, column.figure.unit, partial(_estimate, measured=measured, column=column)) for column in columns
    ]
    return table_of_values(title, arms, made)


def table_of_values(
    title: str, arms: Sequence[str], columns: Sequence[tuple[str, Unit, Callable[[str], Estimate]]]
) -> Table:
    """The same of whatever estimates each column makes of an arm."""
    found = {arm: [make(arm) for _, _, make in columns] for arm in arms}
    rows = [
        (arm, [estimate_cell(item, unit) for item, (_, unit, _) in zip(items, columns, strict=True)])
        for arm, items in found.items()
    ]
    sizes = [max(items[place].n for items in found.values()) for place in range(len(columns))]
    titles = [(name, f"n = {size:,}") for (name, _, _), size in zip(columns, sizes, strict=True)]
    return Table(title, titles, rows)


def table_of_changes(title: str, base: str, changes: Sequence[Difference]) -> Table:
    """How far arms are from `base`, an arm a row and a figure of a group a column."""
    columns = list(dict.fromkeys((item.figure, item.group) for item in changes))
    found = {(item.arm, item.figure, item.group): item for item in changes}
    rows = [
        (arm, [change_cell(found.get((arm, *column))) for column in columns])
        for arm in dict.fromkeys(item.arm for item in changes)
    ]
    first = {column: next(item for item in changes if (item.figure, item.group) == column) for column in columns}
    bases = {column: estimate_cell(item.before, item.figure.unit).text for column, item in first.items()}
    return Table(title, [(column[0].title, f"{base}: {bases[column]}") for column in columns], rows)


def estimate_cell(found: Estimate, unit: Unit) -> Cell:
    """Empty without values."""
    if math.isnan(found.mean):
        return Cell()
    interval = f"{format_number(found.low, unit, bare=True)} to {format_number(found.high, unit, bare=True)}"
    return Cell(format_number(found.mean, unit), interval, note=_basis(found))


def change_cell(found: Difference | None) -> Cell:
    """Signed; shares in points. Empty without values."""
    if found is None or math.isnan(found.change.mean):
        return Cell()
    unit, change = found.figure.unit, found.change
    tone = {None: "", True: BETTER, False: WORSE}[found.is_better]
    interval = f"{_signed(change.low, unit)} to {_signed(change.high, unit)}"
    return Cell(_signed(change.mean, unit), interval, tone, _basis(change))


def format_number(value: float, unit: Unit, *, bare: bool = False) -> str:
    """Shares in percent, the rest as it is, with as many digits as mean something."""
    if unit == "share":
        return f"{100 * value:.1f}" if bare else f"{100 * value:.1f} %"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace("-", _MINUS)
    return f"{value:.2f}".replace("-", _MINUS) if unit in {"nats", "calls"} else f"{value:.1f}".replace("-", _MINUS)


def _estimate(arm: str, measured: Measured, column: Column) -> Estimate:
    values = measured.values(arm, column.group, column.figure.name)
    return estimate(values, is_share=column.figure.unit == "share")


def _signed(value: float, unit: Unit) -> str:
    shown = format_number(abs(value), unit, bare=True)
    return shown if float(shown.replace(",", "")) == 0 else f"{'+' if value > 0 else _MINUS}{shown}"


def _basis(found: Estimate) -> str:
    return f"n = {found.n:,}" if found.n == found.num_prompts else f"n = {found.n:,}, {found.num_prompts:,} prompts"
