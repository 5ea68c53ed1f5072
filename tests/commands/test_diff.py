"""`icalign diff` as people run it."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from tests.authoring.test_revisions import git

POTATOES = "Why do my roast potatoes never go crispy?"


@pytest.fixture
def edited(light_prompts: Path, tmp_path: Path) -> Path:
    """A working copy with one demonstration changed since the last commit, which holds the shipped prompts."""
    folder = copytree(light_prompts, tmp_path / "prompts")
    (tmp_path / "icalign.toml").write_text('engine = "scripted"\nembedder = "wordllama"\nprompts = "prompts"\n')
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "One")
    path = folder / "demonstrations" / "everyday.yaml"
    path.write_text(path.read_text("utf-8").replace("Parboil them", "Boil the potatoes"), "utf-8")
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["diff", *arguments])


def test_a_revision_is_compared_with_the_folder_by_the_prompt_tests(edited: Path) -> None:
    result = run("HEAD", "--profile", "default")
    assert result.exit_code == 1
    assert "HEAD → prompts\nprofile base: " in result.stdout
    assert (
        "items that differ in the files: 1\n~ demonstration everyday-crisp-roast-potatoes\n    assistant:\n"
        in result.stdout
    )
    assert "      +- Boil the potatoes in salted water" in result.stdout
    assert "~ default: Why do my roast potatoes never get crispy?" in result.stdout
    assert "@@" not in result.stdout.partition("\nprompts that differ: ")[2]


def test_full_shows_the_texts(edited: Path) -> None:
    result = run("HEAD", "prompts", "--text", POTATOES, "--full")
    assert "prompts that differ: 1 of 1\n~ default profile: Why do my roast" in result.stdout
    assert "    +- Boil the potatoes" in result.stdout.partition("\nprompts that differ: ")[2]


def test_prompts_that_do_not_change_exit_with_zero(edited: Path) -> None:
    result = run("HEAD", "prompts", "--text", "python function to split a list into chunks")
    assert result.exit_code == 0
    assert "prompts that differ: 0 of 1" in result.stdout


def test_what_is_chosen_otherwise_is_told(edited: Path) -> None:
    profile = edited / "profiles" / "default.yaml"
    text = profile.read_text("utf-8").replace("num_demonstrations: 4", "num_demonstrations: 1")
    profile.write_text(text.replace("low: {benign: 4, ", "low: {"), "utf-8")
    result = run("HEAD", "prompts", "--text", POTATOES)
    assert "    retrieval.num_demonstrations: 4 → 1\n" in result.stdout
    lines = result.stdout.partition("\nprompts that differ: ")[2]
    assert "    tokens: " in lines
    assert "-everyday-crisp-roast-potatoes" in lines


def test_requests_come_from_files_and_machines_get_json(edited: Path) -> None:
    Path("request.json").write_text(json.dumps({"messages": [{"role": "user", "content": POTATOES}], "n": 2}))
    Path("lines").write_text(f"{POTATOES}\nWhat is a logarithm?\n")
    arguments = ["--request", "request.json", "--requests", "lines", "--profile", "default", "--profile", "base"]
    shown = json.loads(run("HEAD", "prompts", *arguments, "--json", "--full").stdout)
    assert shown["num_requests"] == 6
    assert {change["request"]["alignment"]["profile"] for change in shown["prompts"]} == {"default", "base"}
    assert shown["prompts"][0]["after"]["demonstrations"][-1] == "everyday-crisp-roast-potatoes"
    assert "Boil the potatoes" in json.dumps(shown["prompts"][0]["after"]["body"])
    assert [(item["kind"], item["fate"]) for item in shown["items"]] == [("demonstration", "changed")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "'nobody' is neither a folder nor a git revision"),
        (["HEAD", "prompts", "--request", "nowhere"], "nowhere cannot be read"),
        (["tests", "prompts"], "tests: is not a prompts folder"),
        (["HEAD", "--text", "Hi", "--profile", "nobody"], "Neither makes a prompt: There is no profile 'nobody'"),
        (["HEAD", "--profile", "nobody"], "There are no such prompt tests"),
    ],
)
def test_trouble_exits_with_two(edited: Path, arguments: list[str], words: str) -> None:
    Path("tests").mkdir()
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_without_tests_there_must_be_requests(edited: Path) -> None:
    for path in (edited / "tests").iterdir():
        path.unlink()
    copytree(edited, "other")
    result = run("prompts", "other")
    assert result.exit_code == 2
    assert "There are no such prompt tests to take requests from" in result.stderr
