import pytest

from server.evaluation.comparison import Group, Measured, compare_values
from server.evaluation.measures.base import Figure, Unit
from server.evaluation.statistics import EMPTY, Estimate
from server.evaluation.tables import (
    Cell,
    change_cell,
    columns_by_figure,
    columns_by_set,
    estimate_cell,
    format_number,
    table_of,
    table_of_changes,
    table_of_values,
)
from tests.evaluation.made import make_row

REFUSED = Figure("refused", "refused", "share", higher_is_better=True)
BOMBS = Group("frontier", "bombs", "harmful")
MEASURED = Measured(
    make_row(arm, "frontier", data_set, number, label="harmful", values={"refused": value})
    for arm, value in (("off", 0.0), ("ours", 1.0))
    for data_set in ("bombs", "locks")
    for number in range(20)
)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.9312, "share", "93.1 %"),
        (1234.5, "tokens", "1,234"),
        (12.34, "words", "12.3"),
        (-0.456, "nats", "−0.46"),  # noqa: RUF001
        (-1234.5, "ms", "−1,234"),  # noqa: RUF001
        (1.0, "calls", "1.00"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value: float, unit: Unit, shown: str) -> None:
    assert format_number(value, unit) == shown


def test_cells_say_on_how_many_they_rest() -> None:
    assert estimate_cell(Estimate(20, 20, 0.5, 0.25, 0.75), "share") == Cell("50.0 %", "25.0 to 75.0", "", "n = 20")
    assert estimate_cell(Estimate(60, 20, 0.5, 0.25, 0.75), "share").note == "n = 60, 20 prompts"
    assert estimate_cell(EMPTY, "share") == Cell()


def test_changes_are_signed_and_marked() -> None:
    off, ours = (MEASURED.values(arm, BOMBS, "refused") for arm in ("off", "ours"))
    better = change_cell(compare_values("ours", BOMBS, REFUSED, off, ours))
    assert (better.text, better.interval, better.tone) == ("+100.0", "+83.9 to +100.0", "better")
    same = change_cell(compare_values("ours", BOMBS, REFUSED, ours, ours))
    assert (same.text, same.interval, same.tone) == ("0.0", "−16.1 to +16.1", "")  # noqa: RUF001
    assert change_cell(compare_values("ours", BOMBS, REFUSED, {}, ours)) == change_cell(None) == Cell()


def test_a_table_has_all_sets_and_each() -> None:
    table = table_of("Refused", ["off", "ours", "gone"], columns_by_set(MEASURED, "frontier", REFUSED), MEASURED)
    assert table.columns == [("all harmful", "n = 40"), ("bombs", "n = 20"), ("locks", "n = 20")]
    assert [name for name, _ in table.rows] == ["off", "ours", "gone"]
    assert [cell.text for cell in table.rows[1][1]] == ["100.0 %"] * 3
    assert table.rows[2][1] == [Cell()] * 3


def test_a_table_has_figures_over_all_sets() -> None:
    columns = columns_by_figure(MEASURED, "frontier", [REFUSED, Figure("absent", "absent", "share")])
    assert [(column.title, column.group) for column in columns] == [("refused", Group("frontier", "", "harmful"))]


def test_changes_are_against_a_base() -> None:
    off, ours = (MEASURED.values(arm, BOMBS, "refused") for arm in ("off", "ours"))
    changes = [compare_values(arm, BOMBS, REFUSED, off, ours) for arm in ("random", "ours")]
    table = table_of_changes("Against off", "off", changes)
    assert table.columns == [("refused", "off: 0.0 %")]
    assert [(name, cells[0].text) for name, cells in table.rows] == [("random", "+100.0"), ("ours", "+100.0")]


def test_a_table_of_other_estimates() -> None:
    found = {"off": Estimate(3, 3, 0.5, 0.0, 1.0)}
    table = table_of_values("Kept", ["off"], [("kept", "share", found.__getitem__)])
    assert (table.columns, table.rows[0][1][0].text) == ([("kept", "n = 3")], "50.0 %")
