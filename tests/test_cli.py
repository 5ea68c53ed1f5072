"""The command as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from server.engine.packaged import PACKAGED_MODELS
from tests.conftest import PROMPTS
from tests.servers import icalign_serve

ROOT = Path(__file__).parent.parent


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)


def test_config_prints_what_is_in_force_with_secrets_masked(tmp_path: Path) -> None:
    (tmp_path / "icalign.toml").write_text('upstream_api_key = "sk-secret"\nport = 9\n')
    result = run("config", folder=tmp_path, ICALIGN_HOST="::1")
    shown = json.loads(result.stdout)
    assert (shown["port"], shown["host"], shown["upstream_api_key"]) == (9, "::1", "**********")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--engine", "upstream"], "icalign: settings: engine upstream needs upstream"),
        (["serve", "--engine", "scripted", "--prompts", "nowhere"], "icalign: nowhere: is not a prompts folder"),
        (
            ["serve", "--engine", "scripted", "--default-profile", "x"],
            "icalign: default_profile: there is no profile 'x'",
        ),
        (["serve", "--engine", "scripted", "--script", "nowhere"], "icalign: script: nowhere cannot be read"),
        (["serve", "--config", "nowhere"], "icalign: config: there is no file nowhere"),
        (["serve", "--upstream", "nonsense"], "icalign: upstream: 'nonsense' needs the form"),
        (
            ["serve", "--engine", "scripted", "--bogus", "1"],
            "engine_args are for vLLM, the engine is scripted: --bogus 1",
        ),
        (["serve", "--ssl-keyfile", "k"], "icalign: engine_args: --ssl-keyfile belongs to vLLM's own HTTP server"),
        (["serve", "--bogus", "1"], "icalign: engine_args: vLLM does not accept them"),
        (["prepare", "nobody"], "icalign: There is no packaged model 'nobody'; there are smollm2-135m-instruct"),
    ],
)
def test_bad_configuration_stops_with_one_clear_message(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = run(*arguments, folder=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fault_in_a_prompt_file_stops_with_its_place(tmp_path: Path) -> None:
    from shutil import copytree

    copytree(PROMPTS, tmp_path / "prompts")
    path = tmp_path / "prompts" / "profiles" / "default.yaml"
    path.write_text(path.read_text("utf-8").replace("rendering: chat", "rendering: chatty"), "utf-8")
    result = run("serve", "--engine", "scripted", "--prompts", "prompts", folder=tmp_path)
    assert result.returncode == 2
    assert "profiles/default.yaml:4: rendering: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fault_in_a_template_stops_with_its_place(tmp_path: Path) -> None:
    from shutil import copytree

    copytree(PROMPTS, tmp_path / "prompts")
    (tmp_path / "prompts" / "templates" / "chat.jinja").write_text("one\n{% if %}", "utf-8")
    result = run("serve", "--engine", "scripted", "--prompts", "prompts", folder=tmp_path)
    assert result.returncode == 2
    assert "templates/chat.jinja:2: " in result.stderr
    (tmp_path / "prompts" / "templates" / "chat.jinja").write_text("{{ principles[0].txt }}", "utf-8")
    result = run("serve", "--engine", "scripted", "--prompts", "prompts", folder=tmp_path)
    assert result.returncode == 2
    assert "templates/chat.jinja: " in result.stderr
    assert "txt" in result.stderr


def test_serve_says_what_it_serves_and_answers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with icalign_serve(["--engine", "scripted", "--default-profile", "base"], log) as url:
        assert httpx.get(f"{url}/ready").json()["status"] == "ready"
        assert httpx.get(f"{url}/v1/alignment/profiles").json()["default"] == "base"
    announced = log.read_text()
    assert f"Serving scripted at {url}/v1, profile base" in announced
    assert f"curl {url}/v1/chat/completions" in announced


def test_an_upstream_may_come_up_later(tmp_path: Path) -> None:
    with icalign_serve(["--upstream", "http://127.0.0.1:1/v1"], tmp_path / "log") as url:
        assert httpx.get(f"{url}/health").status_code == 200
        ready = httpx.get(f"{url}/ready")
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "engine_unavailable")


def test_serve_stops_when_told_to(tmp_path: Path) -> None:
    with icalign_serve(["--engine", "scripted"], tmp_path / "log") as url:
        pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_prepare_prints_the_folder_of_a_prepared_model(tmp_path: Path) -> None:
    result = run("prepare", next(iter(PACKAGED_MODELS)), folder=tmp_path)
    assert (Path(result.stdout.strip()) / "tokenizer.json").is_file()
