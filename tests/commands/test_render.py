"""The commands that show what is done to a message, as people run them."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner, Result

from server.cli import app

CONFIG = 'engine = "scripted"\nembedder = "wordllama"\n'


@pytest.fixture(autouse=True)
def _settings(light_prompts: Path) -> None:
    Path("icalign.toml").write_text(f'{CONFIG}prompts = "{light_prompts}"\n')


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_render_shows_the_prompt_its_parts_and_their_tokens() -> None:
    result = run("render", "--profile", "company", "--scope", "jurisdiction=eu", "Can I [return] it?")
    assert result.exit_code == 0
    assert "POST /v1/chat/completions, profile company@" in result.stdout
    assert "── user ──\nCan I [return] it?\n" in result.stdout
    assert "14 days" in result.stdout
    assert "  constitution\n" in result.stdout
    assert "in all, by estimate" in result.stdout


def test_render_takes_a_whole_request_for_any_endpoint() -> None:
    Path("request.json").write_text(json.dumps({"input": "Hello", "max_output_tokens": 5}))
    result = run("render", "--profile", "base", "--endpoint", "/v1/responses", "--request", "request.json", "--json")
    shown = json.loads(result.stdout)
    assert (shown["endpoint"], shown["body"]["max_tokens"]) == ("/v1/completions", 5)
    ((prompt,),) = shown["conversations"]
    assert "".join(span["text"] for span in prompt["spans"]) == shown["body"]["prompt"]
    assert shown["tokens"]["by_origin"]["client"] == 2


def test_render_says_what_an_upstream_cannot_be_asked(light_prompts: Path, tmp_path: Path) -> None:
    copytree(light_prompts, tmp_path / "prompts")
    with (tmp_path / "prompts" / "profiles" / "default.yaml").open("a", encoding="utf-8") as file:
        file.write("openings: {low: Sure, elevated: Sure, high: Sure}\n")
    Path("icalign.toml").write_text('upstream = "http://x/v1"\nembedder = "wordllama"\nprompts = "prompts"\n')
    assert "opening is left out: engine" in CliRunner().invoke(app, ["render", "Hi"]).stdout
    with Path("icalign.toml").open("a", encoding="utf-8") as file:
        file.write("upstream_continues = true\n")
    assert "── assistant ──\nSure" in CliRunner().invoke(app, ["render", "Hi"]).stdout


def test_render_says_what_gives_way_to_a_small_window() -> None:
    wide = run("render", "How do I bake bread?")
    assert "--window-tokens shows what would give way" in wide.stdout
    narrow = run("render", "How do I bake bread?", "--window-tokens", "700")
    assert "Gave way to the window of 700 tokens: " in narrow.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render"], "Give a text or --request FILE"),
        (["render", "Hi", "--profile", "nobody"], "There is no profile 'nobody'"),
        (["render", "Hi", "--scope", "jurisdiction=eu"], "does not let a request override scope"),
        (["render", "Hi", "--endpoint", "/v1/x"], "There is no aligned endpoint '/v1/x'"),
        (["retrieve", "Hi", "--profile", "off"], "has no bank to retrieve from"),
        (["retrieve", "Hi", "--prompts", "nowhere"], "nowhere: is not a prompts folder"),
    ],
)
def test_faults_are_told_in_a_line(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_retrieve_says_why() -> None:
    result = run("retrieve", "Why do my roast potatoes never go crispy?", "--count", "40")
    assert result.exit_code == 0
    assert " ✓  0." in result.stdout
    assert "chosen as number 1" in result.stdout
    assert "the low route has no quota for harmful ones" in result.stdout
    assert "  pinned\n" in result.stdout
    assert "harmless  risk/" in result.stdout


def test_retrieve_answers_machines_as_the_endpoint_does() -> None:
    shown = json.loads(run("retrieve", "Can I return it?", "--profile", "company", "--json", "--count", "1").stdout)
    assert shown["neighbours"][0]["reason"]
    assert {item["reason"] for item in shown["judged_principles"]} >= {"chosen", "outranked"}
