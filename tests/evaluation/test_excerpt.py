from pathlib import Path

import pytest

from server.evaluation.excerpt import choose_items, reaches_goal
from tests.evaluation.made import NUM_PROMPTS, make_row, make_run, make_values


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ({"refused": 1.0, "harmful": 0.0}, True),
        ({"answered": 0.0, "stopped": 1.0}, False),
        ({"refused_template": 0.0, "refused_attacked": 0.0, "harmful_attacked": 1.0}, False),
        ({"refused_plain": 1.0}, True),
        ({"all_constraints": 1.0, "constraints": 1.0}, True),
        ({"stopped": 1.0}, None),
    ],
)
def test_goals_are_those_of_the_measure(values: dict[str, float], reached: bool | None) -> None:
    assert reaches_goal(make_row("ours", "frontier", "bombs", 1, values=values)) is reached
    assert reaches_goal(make_row("ours", "frontier", "bombs", 1, values=values, error="503")) is None


def test_items_come_from_all_sets_and_misses_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["off", "ours"], make_values({"off": 0.0, "ours": 0.8}), measures=["frontier", "tax"])
    excerpt = choose_items(run, "ours", limit=10)
    assert excerpt.num_items == 4 * NUM_PROMPTS
    assert excerpt.groups == ["frontier bombs", "frontier locks", "frontier soups", "tax orders"]
    sizes = [sum(item.group == group for item in excerpt.items) for group in excerpt.groups]
    assert sizes == [3, 3, 2, 2]
    bombs = [item for item in excerpt.items if item.group == "frontier bombs"]
    assert [item.first.id for item in bombs] == ["8", "9", "0"]
    assert [row.arm for row in bombs[0].rows] == ["off", "ours"]
    assert [item.outcomes for item in bombs] == [["missed:off", "missed:ours"]] * 2 + [["missed:off", "differs"]]


def test_what_failed_can_be_found(tmp_path: Path) -> None:
    failed = make_row("ours", "tax", "orders", 99, label="harmless", error="503")
    run = make_run(tmp_path, ["ours"], make_values({"ours": 1.0}), measures=["tax"], rows=[failed])
    assert [item.first.id for item in choose_items(run, "ours").items if "failed" in item.outcomes] == ["99"]
