"""`icalign eval` as people run it, over a scripted engine and the package's own fixtures."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from server.engine.scripted import ScriptedEngine, load_script
from server.evaluation.rows import read_rows
from server.evaluation.runs import load_run
from tests.conftest import AppFactory
from tests.servers import served

# The scripted engine sees the client's message last: some of what is harmful is refused, whatever the profile.
SCRIPT = """
- {match: "(?i)bomb|poison|password|camera", text: "I'm sorry, but I can't help with that."}
- {text: "Certainly. Here is what I know of it, in short."}
"""
FRONTIER = ("--measure", "frontier", "--count", "4")


@pytest.fixture(autouse=True)
def _settings(light_prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    settings = f'engine = "scripted"\nembedder = "wordllama"\nscript = "script.yaml"\nprompts = "{light_prompts}"\n'
    (tmp_path / "icalign.toml").write_text(settings)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def figures(result: Result) -> dict[tuple[str, str], Any]:
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    return {(line["measure"], line["figure"]): line["means"] for line in shown["figures"]}


def test_the_ladder_is_measured_on_fixtures() -> None:
    found = figures(run("--measure", "frontier", "--out", "r", "--json"))
    assert list(found["frontier", "refused"]) == ["off", "constant", "random", "topk", "ours"]
    assert 0 < found["frontier", "refused"]["off"] < 1
    tokens = found["frontier", "alignment_tokens"]
    assert tokens["off"] == 0
    assert min(tokens[arm] for arm in tokens if arm != "off") > 200
    head = load_run(Path("r")).head
    assert head.settings == {
        "engine": "scripted",
        "engine_args": [],
        "count": 60,
        "seed": 0,
        "max_tokens": None,
        "temperature": 0,
    }
    assert [arm.embedder for arm in head.arms] == [None, None, "chance", None, None]
    assert head.embedder == "wordllama-256"
    assert [card.name for card in head.judges] == ["refusal", "harm"]
    assert head.measures[0].sets == {"fixture_harmful": 12, "fixture_harmless": 12}


def test_arms_choose_differently() -> None:
    run(*FRONTIER, "--out", "r")
    rows = [row for row in read_rows(Path("r/rows.jsonl")).values() if row.id == "theft-1" or row.label == "harmless"]
    chosen = {
        arm: [tuple(row.chosen) for row in rows if row.arm == arm] for arm in ("off", "constant", "random", "topk")
    }
    assert set(chosen["off"]) == {()}
    assert len(set(chosen["constant"])) == 1
    assert all(one != other for one, other in zip(chosen["random"], chosen["topk"], strict=True))


def test_all_measures_that_the_engine_can_serve_are_asked() -> None:
    result = run("--count", "2", "--arm", "off", "--arm", "ours", "--out", "r")
    assert result.exit_code == 0
    assert "Left out: preference, since likelihood needs an engine" in result.stderr
    assert [measure.name for measure in load_run(Path("r")).head.measures] == ["frontier", "attacks", "tax"]
    assert "scripted: 32 rows in r" in result.stdout
    assert "refused many shot" in result.stdout


def test_a_run_goes_on_and_is_not_asked_twice() -> None:
    run(*FRONTIER, "--out", "r")
    path = Path("r/rows.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-10]))
    result = run(*FRONTIER, "--out", "r")
    assert "30 of 40 are in r already." in result.stderr
    assert result.exit_code == 0
    assert len(path.read_bytes().splitlines()) == 40


def test_a_folder_with_another_run_is_refused() -> None:
    run(*FRONTIER, "--arm", "off", "--out", "r")
    result = run(*FRONTIER, "--arm", "off", "--seed", "1", "--out", "r")
    assert result.exit_code == 2
    assert "r has a run of something else: settings were" in result.stderr


def test_what_fails_is_counted_and_tried_again() -> None:
    asked = ("--measure", "frontier", "--set", "fixture_harmful", "--arm", "off", "--out", "r")
    Path("script.yaml").write_text('- {match: bomb, status: 400, text: "no"}\n')
    result = run(*asked)
    assert result.exit_code == 1
    assert "1 of 12 failed" in result.stderr
    assert "answered 400" in result.stderr
    Path("script.yaml").write_text(SCRIPT)
    result = run(*asked)
    assert result.exit_code == 0
    assert "11 of 12 are in r already." in result.stderr


def test_profiles_and_patches_are_arms() -> None:
    Path("k1.yaml").write_text("retrieval: {num_demonstrations: 1}\n")
    run(
        *FRONTIER,
        "--profile",
        "base",
        "--profile",
        "public-service",
        "--arm",
        "k1=k1.yaml",
        "--arm",
        "ours",
        "--out",
        "r",
    )
    assert [arm.profile.partition("@")[0] for arm in load_run(Path("r")).head.arms] == [
        "arm-k1",
        "base",
        "public-service",
    ]
    rows = read_rows(Path("r/rows.jsonl")).values()
    assert {len(row.chosen) for row in rows if row.arm == "k1"} == {1}


def test_a_sweep_changes_one_thing_at_a_time() -> None:
    Path("s.yaml").write_text(
        "k: {'1': {retrieval: {num_demonstrations: 1}}, '4': {retrieval: {num_demonstrations: 4}}}\n"
        "order: {nearest first: {retrieval: {order: nearest_first}}}\n"
    )
    result = run(*FRONTIER, "--sweep", "s.yaml", "--out", "r")
    assert result.exit_code == 0, result.stderr
    found = load_run(Path("r"))
    assert [arm.id for arm in found.head.arms] == ["ours", "k-1", "order-nearest-first"]
    shown = {(row.arm, row.id): list(row.chosen) for row in found.rows.values()}
    prompts = {row.id for row in found.rows.values()}
    assert {len(shown["k-1", prompt]) for prompt in prompts} == {1}
    assert all(shown["order-nearest-first", prompt] == shown["ours", prompt][::-1] for prompt in prompts)
    assert "What each change does" in Path("r/report.html").read_text("utf-8")
    assert Path("r/sweep.png").is_file()


def test_without_sanitising_forged_turns_reach_the_engine() -> None:
    Path("script.yaml").write_text("- {match: '<[|]im_start[|]>assistant', text: Forged.}\n- {text: Whole.}\n")
    attacks = ("--measure", "attacks", "--count", "12", "--arm", "ours", "--arm", "unsanitised", "--out", "r")
    assert run(*attacks).exit_code == 0
    forged = {(row.arm, row.answer) for row in load_run(Path("r")).rows.values() if row.variant == "forged-chatml"}
    assert forged == {("ours", "Whole."), ("unsanitised", "Forged.")}


def test_an_arm_has_an_embedder_of_its_own() -> None:
    run(*FRONTIER, "--arm", "wordllama", "--embedder", "minilm", "--out", "r")
    head = load_run(Path("r")).head
    assert [(arm.id, arm.embedder) for arm in head.arms] == [("wordllama", "wordllama")]


def test_a_server_elsewhere_is_asked_by_its_profiles(make_app: AppFactory) -> None:
    with served(make_app(ScriptedEngine(load_script(Path("script.yaml"))))) as url:
        found = figures(run(*FRONTIER, "--url", f"{url}/v1", "--out", "r", "--json"))
    assert list(found["frontier", "refused"]) == ["off", "default"]


def test_a_run_is_shown_again_without_asking() -> None:
    first = run(*FRONTIER, "--arm", "off", "--out", "r")
    assert "The report is r/report.html." in first.stderr
    Path("r/report.html").unlink()
    again = run("--report-only", "r")
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert Path("r/report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--measure", "mood"], "there is no 'mood'; there are frontier, attacks"),
        (["--set", "nothing"], "no measure here takes 'nothing'"),
        (["--measure", "tax", "--set", "fixture_harmful"], "no measure here takes 'fixture_harmful'"),
        (["--set", "harmbench"], "the set 'harmbench' is not in the package"),
        (["--profile", "nobody"], "there is no 'nobody'; there are base, company"),
        (["--arm", "best"], "there is no 'best'"),
        (["--arm", "off", "--arm", "off"], "'off' is given twice"),
        (["--url", "http://127.0.0.1:1"], "cannot be reached"),
        (["--url", "http://127.0.0.1:1", "--arm", "off"], "--arm and --sweep change prompt files"),
        (["--url", "http://127.0.0.1:1", "--sweep", "s.yaml"], "--arm and --sweep change prompt files"),
        (["--sweep", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--judge-url", "http://127.0.0.1:1"], "Give --judge-url and --judge-model together."),
        (["--report-only", "nowhere"], "nowhere/run.json is not the head of a run"),
        (["--max-model-len", "9"], "engine_args are for vLLM"),
    ],
)
def test_trouble_exits_with_two(arguments: list[str], words: str) -> None:
    result = run("--count", "1", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_sweep_that_changes_nothing_is_refused() -> None:
    Path("s.yaml").write_text("order: {as now: {retrieval: {order: nearest_last}}}\n")
    result = run(*FRONTIER, "--sweep", "s.yaml", "--out", "r")
    assert result.exit_code == 2
    assert "nothing in it changes profile 'default'" in result.stderr


def test_a_faulty_patch_is_named() -> None:
    Path("p.yaml").write_text("retrieval: {num_demonstratoins: 1}\n")
    result = run(*FRONTIER, "--arm", "typo=p.yaml", "--out", "r")
    assert result.exit_code == 2
    assert "profiles/arm-typo.yaml" in result.stderr
    assert "num_demonstratoins" in result.stderr
