"""`icalign compare` as people run it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from tests.evaluation.made import make_run, make_values


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path) -> None:
    for name, skill in (("a", {"off": 0.1, "ours": 0.2}), ("b", {"off": 0.1, "ours": 1.0})):
        make_run(tmp_path / name, list(skill), make_values(skill), measures=["frontier"])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def test_differences_are_shown_with_intervals() -> None:
    result = run("a", "b")
    assert result.exit_code == 0
    assert result.stdout.startswith("a → b: asked the same\n")
    lines = [line.split() for line in result.stdout.splitlines() if "refused" in line]
    assert lines[0][:10] == ["off", "frontier", "all", "harmful", "refused", "20", "10.0", "%", "10.0", "%"]
    assert lines[1][-5:] == ["+80.0", "*", "+60.0", "to", "+95.0"]
    assert not any("bombs" in line for line in lines)


def test_one_arm_by_set_for_machines() -> None:
    shown = json.loads(run("a", "b", "--arm", "ours", "--by-set", "--json").stdout)
    assert shown["differs"] == []
    assert {item["arm"] for item in shown["figures"]} == {"ours"}
    (bombs,) = [item for item in shown["figures"] if (item["set"], item["figure"]) == ("bombs", "refused")]
    assert (bombs["before"]["mean"], bombs["after"]["mean"], bombs["is_better"]) == (0.2, 1.0, True)
    assert shown["figures"][0]["set"] is None


def test_a_report_is_written() -> None:
    result = run("a", "b", "--report", "c")
    assert "The report is in c/report.html." in result.stderr
    assert "What changed" in Path("c/report.html").read_text("utf-8")


def test_faults_are_told() -> None:
    result = run("a", "absent")
    assert result.exit_code == 2
    assert "icalign: run: absent/run.json is not the head of a run" in result.stderr
    assert "the runs do not share theirs" in run("a", "b", "--arm", "theirs").stderr
