"""`icalign tune` as people run it, over a scripted engine and the package's own fixtures."""

import json
from collections import Counter
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from server.evaluation.rows import read_rows
from server.evaluation.runs import load_run
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS

# What the reminder is put to is refused, and nothing else.
SCRIPT = """
- {match: "(?i)decline politely", text: "I'm sorry, but I can't help with that."}
- {text: "Certainly. Here is what I know of it, in short."}
"""
SPACE = """
order:
  canonical: {retrieval: {order: canonical}}
reminder:
  polite: {reminders: {high: Please decline politely.}}
  useless: {reminders: {high: Please answer.}}
"""


@pytest.fixture(autouse=True)
def _settings(light_prompts: Path) -> None:
    Path("script.yaml").write_text(SCRIPT)
    Path("space.yaml").write_text(SPACE)
    settings = {"engine": "scripted", "embedder": "wordllama", "script": "script.yaml", "prompts": str(light_prompts)}
    Path("icalign.toml").write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["tune", "--out", "t", "--space", "space.yaml", *arguments])


def found(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_what_aligns_better_becomes_a_profile() -> None:
    # The light embedder finds hardly any of these prompts harmful.
    result = run("--profile", "default", "--embedder", "mpnet", "--count", "3", "--json")
    shown = found(result)
    assert shown["profile"] == {
        "id": "default-tuned",
        "extends": "default",
        "path": "t/tuned.yaml",
        "patch": {"reminders": {"high": "Please decline politely."}},
    }
    assert [(step["coordinate"], step["value"]) for step in shown["search"]] == [
        ("order", "as it is"),
        ("reminder", "polite"),
    ]
    figures = {item["figure"]: item for item in shown["held_out"]}
    assert figures["refused"]["before"]["mean"] == 0
    assert figures["refused"]["after"]["mean"] > 0.5
    assert figures["answered"]["change"]["mean"] == 0
    assert figures["score"]["change"]["low"] > 0
    assert "reminder: polite, +" in result.stderr


def test_the_profile_can_be_installed_and_tells_where_it_comes_from(light_prompts: Path) -> None:
    result = run("--profile", "default", "--id", "kind")
    assert result.exit_code == 0, result.stderr
    assert f"To have the profile: cp t/tuned.yaml {light_prompts}/profiles/kind.yaml" in result.stderr
    text = Path("t/tuned.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schemas/profile.json\n# Written by `icalign tune`")
    for words in (
        "for scripted, with embedder wordllama-256",
        "fixture_harmful, fixture_harmless, after_history (seed 0)",
        "18 other",
        "refused after a compliant history",
    ):
        assert words in text
    assert "\nid: kind\nextends: default\ndescription: General assistant for chat models" in text
    copy = copytree(light_prompts, Path("prompts"))
    (copy / "profiles" / "kind.yaml").write_text(text)
    profiles = load_profiles(copy)
    assert profiles["kind"].reminders == {"high": "Please decline politely."}
    assert profiles["kind"].retrieval == profiles["default"].retrieval


def test_held_out_prompts_are_others() -> None:
    run("--profile", "default")
    rows = read_rows(Path("t/rows.jsonl"))
    held_out = load_run(Path("t/held-out"))
    assert [arm.id for arm in held_out.head.arms] == ["default", "default-tuned"]
    assert held_out.rows.items() <= rows.items()
    assert (Path("t/held-out") / "report.html").is_file()
    asked = {(row.set, row.id) for row in held_out.rows.values()}
    chosen_by = {(row.set, row.id) for key, row in rows.items() if key not in held_out.rows}
    assert len(asked) == len(chosen_by) == 18
    assert not asked & chosen_by
    after_history = [row.messages or () for row in held_out.rows.values() if row.set == "after_history"]
    assert len(after_history) == 12
    known = {row.prompt for row in held_out.rows.values()}
    assert all(turn["content"] in known for turns in after_history for turn in turns if turn["role"] == "user")


def test_a_search_goes_on_where_it_was_cut_off() -> None:
    first = run("--profile", "default")
    path = Path("t/rows.jsonl")
    lines, profile = path.read_bytes().splitlines(keepends=True), Path("t/tuned.yaml").read_text()
    path.write_bytes(b"".join(lines[:20]))
    again = run("--profile", "default")
    assert "20 answers are in t already." in again.stderr
    assert again.stdout == first.stdout
    assert Path("t/tuned.yaml").read_text() == profile
    assert set(path.read_bytes().splitlines()) >= {line.rstrip() for line in lines[:20]}
    assert len(path.read_bytes().splitlines()) == len(lines)
    once_more = run("--profile", "default")
    assert once_more.stdout == first.stdout
    assert max(Counter(json.loads(line)["key"] for line in path.read_bytes().splitlines()).values()) == 1


def test_another_search_is_refused_in_the_same_folder() -> None:
    run("--profile", "default")
    result = run("--profile", "default", "--seed", "1")
    assert result.exit_code == 2
    assert "t has a run of something else" in result.stderr


def test_of_several_profiles_the_best_is_gone_on_with(light_prompts: Path) -> None:
    prompts = copytree(light_prompts, Path("prompts"))
    strict = "id: strict\nextends: base\ndescription: Strict.\nreminders: {high: Please decline politely.}\n"
    (prompts / "profiles" / "strict.yaml").write_text(strict)
    shown = found(run("--prompts", "prompts", "--profile", "default", "--profile", "strict", "--json"))
    assert (shown["search"][0]["coordinate"], shown["search"][0]["value"]) == ("profile", "strict")
    assert (shown["profile"]["id"], shown["profile"]["extends"]) == ("strict-tuned", "strict")
    assert [arm.id for arm in load_run(Path("t/held-out")).head.arms][:2] == ["default", "strict"]


def test_where_nothing_is_better_the_profile_stays() -> None:
    Path("space.yaml").write_text("order: {canonical: {retrieval: {order: canonical}}}\n")
    result = run("--profile", "default")
    assert result.exit_code == 0, result.stderr
    assert "Nothing was better than profile default as it is." in result.stderr
    text = Path("t/tuned.yaml").read_text()
    assert "#   order: as it is, since canonical gave +0.0 ± 0.0 on 6\n" in text
    assert [line.partition(":")[0] for line in text.splitlines() if not line.startswith(("#", " "))] == [
        "id",
        "extends",
        "description",
    ]


def test_a_value_that_the_engine_refuses_is_left_out() -> None:
    Path("script.yaml").write_text(f'- {{match: "Please answer", status: 400, text: "no"}}{SCRIPT}')
    result = run("--profile", "default")
    assert result.exit_code == 1
    assert "Left out: profile default with reminder useless, since" in result.stderr
    assert "failed; the same command tries them again." in result.stderr
    assert "decline politely" in Path("t/tuned.yaml").read_text()


def test_a_prompt_that_the_engine_refuses_does_not_count() -> None:
    Path("script.yaml").write_text(f'- {{match: "(?i)bomb|hack|poison", status: 400, text: "no"}}{SCRIPT}')
    result = run("--prompts", str(PROMPTS), "--profile", "default", "--json")
    assert result.exit_code == 1
    assert "Left out" not in result.stderr
    shown = json.loads(result.stdout)
    assert shown["failed"] > 0
    assert shown["profile"]["patch"] == {"reminders": {"high": "Please decline politely."}}


def test_a_profile_that_the_engine_refuses_is_told() -> None:
    Path("script.yaml").write_text('- {match: "", status: 400, text: "no"}\n')
    result = run("--profile", "default")
    assert result.exit_code == 2
    assert "profile default: " in result.stderr
    assert "the same command goes on from here" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "nobody"], "profile: there is no 'nobody'; there are base, company"),
        (["--profile", "off"], "profile: 'off' adds nothing to a request, so there is nothing to tune"),
        (["--id", "Base_1"], "id: 'Base_1' is no name"),
        (["--id", "company"], "has a profile 'company' already; give another --id"),
        (["--space", "nowhere.yaml"], "space: nowhere.yaml cannot be read"),
        (["--space", "empty.yaml"], "empty.yaml:1: must be a mapping of coordinates"),
        (["--space", "same.yaml"], "space: nothing in it changes profile 'default'"),
        (["--space", "typo.yaml"], "typo.yaml:1: order.other.retrieval.ordr: "),
        (["--set", "nothing"], "set: no measure here takes 'nothing'"),
        (["--set", "fixture_harmful"], "set: there are no harmless prompts held out"),
        (["--max-model-len", "9"], "engine_args are for vLLM"),
    ],
)
def test_trouble_is_told_before_the_engine_starts(arguments: list[str], words: str) -> None:
    Path("empty.yaml").write_text("{}\n")
    Path("same.yaml").write_text("order: {last: {retrieval: {order: nearest_last}}, nothing: {}}\n")
    Path("typo.yaml").write_text("order: {other: {retrieval: {ordr: canonical}}}\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Path("t").exists()
