from dataclasses import replace
from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.comparison import (
    COMPLETION_TOKENS,
    Difference,
    Group,
    Measured,
    compare_runs,
    compare_values,
    summary_of,
    tell_differences,
)
from server.evaluation.measures.base import Figure
from server.evaluation.runs import RunArm
from server.evaluation.statistics import EMPTY
from tests.evaluation.made import NUM_PROMPTS, make_row, make_run, make_values

REFUSED = Figure("refused", "refused", "share", higher_is_better=True)
LATENCY = Figure("latency", "latency", "ms", higher_is_better=False)
BOMBS = Group("frontier", "bombs", "harmful")


def test_values_come_by_arm_set_label_and_figure() -> None:
    rows = [
        make_row("off", "frontier", "bombs", 1, label="harmful", values={"refused": 0.0}),
        make_row("ours", "frontier", "bombs", 1, label="harmful", values={"refused": 1.0}),
        make_row("ours", "frontier", "locks", 1, label="harmful", values={"refused": 0.0}),
        make_row("ours", "frontier", "soups", 1, label="harmless", values={"answered": 1.0}),
        make_row("ours", "frontier", "bombs", 2, label="harmful", values={"refused": 1.0}, error="503"),
    ]
    measured = Measured(rows)
    harmful = Group("frontier", "", "harmful")
    assert measured.groups("frontier", "refused") == [harmful, BOMBS, Group("frontier", "locks", "harmful")]
    assert measured.groups("frontier", "answered") == [Group("frontier", "soups", "harmless")]
    assert measured.groups("attacks", "refused") == []
    assert measured.values("ours", BOMBS, "refused") == {("frontier/bombs/1", ""): 1.0}
    assert list(measured.values("ours", harmful, "refused").values()) == [1.0, 0.0]
    assert measured.values("off", harmful, "answered") == {}
    assert set(measured.everywhere("ours", COMPLETION_TOKENS).values()) == {20}
    assert [harmful.title, BOMBS.title] == ["all harmful", "bombs"]


@pytest.mark.parametrize(
    ("figure", "before", "after", "is_better"),
    [(REFUSED, 0.0, 1.0, True), (REFUSED, 1.0, 0.0, False), (LATENCY, 5.0, 9.0, False), (REFUSED, 1.0, 1.0, None)],
)
def test_a_difference_knows_whether_it_is_better(
    figure: Figure, before: float, after: float, is_better: bool | None
) -> None:
    one, other = ({(str(number), ""): value for number in range(20)} for value in (before, after))
    found = compare_values("ours", BOMBS, figure, one, other)
    assert found.is_better is is_better
    assert (found.before.mean, found.after.mean, found.change.mean) == (before, after, after - before)
    indifferent = Difference("ours", BOMBS, Figure("words", "words", "words"), EMPTY, EMPTY, found.change)
    assert indifferent.is_better is None


def test_only_what_both_were_asked_counts() -> None:
    one, other = {("a", ""): 1.0, ("b", ""): 0.0}, {("b", ""): 1.0, ("c", ""): 1.0}
    found = compare_values("ours", BOMBS, REFUSED, one, other)
    assert (found.before.n, found.before.mean, found.after.mean) == (1, 0.0, 1.0)


def test_runs_are_compared_arm_by_arm(tmp_path: Path) -> None:
    before = make_run(tmp_path / "a", ["off", "ours"], make_values({"off": 0.1, "ours": 0.2}), measures=["frontier"])
    after = make_run(tmp_path / "b", ["ours", "new"], make_values({"new": 1.0, "ours": 1.0}), measures=["frontier"])
    found = compare_runs(before, after)
    assert {item.arm for item in found} == {"ours"}
    refused = next(item for item in found if item.figure.name == "refused")
    assert refused.group == Group("frontier", "", "harmful")
    assert refused.change.n == 2 * NUM_PROMPTS
    assert refused.change.mean == pytest.approx(0.8)
    assert refused.is_better


def test_the_only_arms_are_compared_whatever_their_names(tmp_path: Path) -> None:
    before = make_run(tmp_path / "a", ["old"], make_values({"old": 0.5}), measures=["tax"])
    after = make_run(tmp_path / "b", ["new"], make_values({"new": 0.5}), measures=["tax"])
    assert {item.arm for item in compare_runs(before, after)} == {"new"}


def test_runs_that_share_nothing_cannot_be_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "a", ["off", "ours"], make_values({"off": 0.1, "ours": 1}), measures=["frontier"])
    tax = make_run(tmp_path / "b", ["off", "ours"], make_values({"off": 0.1, "ours": 1}), measures=["tax"])
    arms = make_run(tmp_path / "c", ["x", "y"], make_values({"x": 0.1, "y": 1}), measures=["frontier"])
    with pytest.raises(ConfigurationError, match="no answered prompt in common"):
        compare_runs(one, tax)
    with pytest.raises(ConfigurationError, match="no arm of off, ours is among x, y"):
        compare_runs(one, arms)


def test_what_two_runs_were_asked_otherwise_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["ours"], make_values({"off": 0.1, "ours": 1.0}), measures=["tax"])
    head = replace(
        run.head, model="other", settings={**run.head.settings, "seed": 4}, arms=[RunArm("ours", "ours", "ours@2")]
    )
    assert tell_differences(run, replace(run, head=head)) == [
        "model tiny <model> → other",
        "seed 3 → 4",
        "arm ours ours@1 → ours@2",
    ]


def test_a_summary_is_over_all_sets(tmp_path: Path) -> None:
    before = make_run(tmp_path / "a", ["off", "ours"], make_values({"off": 0.1, "ours": 1.0}), measures=["frontier"])
    found = summary_of(compare_runs(before, before))
    assert {(item.figure.name, item.group.title) for item in found if item.arm == "ours"} == {
        ("refused", "all harmful"),
        ("answered", "soups"),
        *((name, title) for name in ("stopped", "alignment_tokens", "latency") for title in ("all harmful", "soups")),
    }
