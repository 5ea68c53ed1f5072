"""The commands on a folder, as people and machines run them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from tests.authoring.folders import edit, make_folder

TALK = "demonstrations/talk.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "prompts")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--embedder", "wordllama"] if arguments[0] == "check" else arguments)


def test_a_sound_folder_passes(folder: Path) -> None:
    result = run("check", str(folder), "--strict")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"0 errors and 0 warnings in {folder}; served as version ")


def test_findings_are_told_with_place_and_mend(folder: Path) -> None:
    edit(folder, TALK, "contrast: pick-lock\n", "contrast: boil-egg\n")
    result = run("check", "prompts")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == (
        "prompts/demonstrations/talk.yaml:5 warning demonstrations[0].id: "
        "pick-lock is harmful and has no look-alike [no-lookalike]"
    )
    assert "    name the harmful demonstration that it resembles\n" in result.stdout
    assert "\n\n1 error and 1 warning in prompts" in result.stdout


def test_warnings_fail_only_where_asked(folder: Path) -> None:
    edit(folder, TALK, "    contrast: pick-lock\n", "")
    assert run("check", str(folder)).exit_code == 0
    assert run("check", str(folder), "--strict").exit_code == 1


def test_machines_get_json(folder: Path) -> None:
    edit(folder, TALK, "    contrast: pick-lock\n", "")
    shown = json.loads(run("check", str(folder), "--json").stdout)
    assert (shown["num_errors"], shown["num_warnings"]) == (0, 1)
    assert len(shown["version"]) == 12
    assert shown["findings"] == [
        {
            "path": TALK,
            "line": 5,
            "field": "demonstrations[0].id",
            "message": "pick-lock is harmful and has no look-alike",
            "mend": "add one with risk lookalike and contrast pick-lock, alike in words and answered in full",
            "rule": "no-lookalike",
            "severity": "warning",
        }
    ]


def test_the_window_is_the_models_unless_it_is_given(folder: Path) -> None:
    assert run("check", str(folder), "--window-tokens", "300").exit_code == 1


def test_what_cannot_be_checked_is_told(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "nowhere: is not a prompts folder" in result.stderr


def test_what_new_writes_is_sound_but_for_what_is_left_to_write(folder: Path) -> None:
    assert run("new", "demonstration", "rising", "--topic", "talk", "--prompts", str(folder)).exit_code == 0
    result = run("check", str(folder), "--json")
    assert {item["rule"] for item in json.loads(result.stdout)["findings"]} == {"placeholder"}


@pytest.mark.parametrize("kind", ["profile", "constitution", "template"])
def test_new_says_where_it_wrote_and_what_comes_next(folder: Path, kind: str) -> None:
    arguments = ["--constitution", "rules"] if kind == "profile" else []
    result = run("new", kind, "mine", *arguments, "--prompts", str(folder))
    assert Path(result.stdout.strip()).is_file()
    assert "Next: " in result.stderr
    again = run("new", kind, "mine", *arguments, "--prompts", str(folder))
    assert (again.exit_code, "is there already" in again.stderr) == (2, True)


def test_schema_prints_one_or_all_or_publishes(folder: Path) -> None:
    assert json.loads(run("schema", "profile").stdout)["title"] == "icalign profile"
    assert set(json.loads(run("schema").stdout)) >= {"profile", "constitution", "demonstrations", "demonstration"}
    assert run("schema", "--write", "--prompts", str(folder)).exit_code == 0
    assert json.loads((folder / "schemas" / "profile.json").read_text("utf-8"))["title"] == "icalign profile"
    assert run("schema", "nothing").exit_code == 2
