"""The command as people run it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from server.cli import _Server
from server.engine.packaged import PACKAGED_MODELS
from server.engine.scripted import ScriptedEngine
from server.settings import EngineKind, Settings
from tests.conftest import PROMPTS, AppFactory
from tests.servers import icalign_process, icalign_serve

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
        (["prepare", "nobody"], "icalign: There is no packaged model 'nobody'; there are smollm2-135m-instruct"),
    ],
)
def test_bad_configuration_stops_with_one_clear_message(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = run(*arguments, folder=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


REFUSED = """
import sys
from server.cli import app
for arguments in (["--ssl-keyfile", "k"], ["--bogus", "1"]):
    try:
        app(["serve", *arguments])
    except SystemExit as end:
        print(end.code, file=sys.stderr)
"""


def test_arguments_that_vllm_is_not_to_have_stop_the_start(tmp_path: Path) -> None:
    """In one process, since importing vLLM takes half a minute."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", REFUSED]
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    first, second, rest = result.stderr.split("\n2\n")
    assert "icalign: engine_args: --ssl-keyfile belongs to vLLM's own HTTP server" in first
    assert "icalign: engine_args: vLLM does not accept them" in second
    assert (rest, "Traceback" in result.stderr) == ("", False)


def test_a_fault_in_a_prompt_file_stops_with_its_place(tmp_path: Path) -> None:
    from shutil import copytree

    copytree(PROMPTS, tmp_path / "prompts")
    path = tmp_path / "prompts" / "profiles" / "default.yaml"
    path.write_text(path.read_text("utf-8").replace("rendering: chat", "rendering: chatty"), "utf-8")
    result = run("serve", "--engine", "scripted", "--prompts", "prompts", folder=tmp_path)
    assert result.returncode == 2
    assert "profiles/default.yaml:5: rendering: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fault_in_a_template_stops_with_its_place(tmp_path: Path) -> None:
    from shutil import copytree

    copytree(PROMPTS, tmp_path / "prompts")
    (tmp_path / "prompts" / "templates" / "chat.jinja").write_text("one\n{% if %}", "utf-8")
    result = run("serve", "--engine", "scripted", "--prompts", "prompts", folder=tmp_path)
    assert result.returncode == 2
    assert "templates/chat.jinja:2: " in result.stderr
    (tmp_path / "prompts" / "templates" / "chat.jinja").write_text("{{ system.txt }}", "utf-8")
    result = run("serve", "--engine", "scripted", "--prompts", "prompts", folder=tmp_path)
    assert result.returncode == 2
    assert "templates/chat.jinja:1: " in result.stderr
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


def test_the_port_answers_while_the_engine_loads(make_app: AppFactory) -> None:
    class Loading(ScriptedEngine):
        @asynccontextmanager
        async def running(self) -> AsyncIterator[None]:
            time.sleep(2)  # noqa: ASYNC251 - as vLLM does, it holds up the loop
            yield

    app, settings = make_app(Loading()), Settings(engine=EngineKind.SCRIPTED)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = _Server(app, uvicorn.Config(app, log_level="warning"), settings)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.start()
        answers = [httpx.post(f"{url}/v1/messages")]
        while answers[-1].status_code == 503:
            answers.append(httpx.get(f"{url}/ready"))
        server.should_exit = True
        thread.join()
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "engine_unavailable")
    assert answers[0].headers["retry-after"] == "5"
    assert answers[-1].json() == {"status": "ready"}


LOADING = """
import sys, time
from contextlib import asynccontextmanager
from server.cli import main
from server.engine.scripted import ScriptedEngine

@asynccontextmanager
async def running(self):
    print("loading", flush=True)
    time.sleep(60)
    yield

ScriptedEngine.running = running
sys.argv = ["icalign", "serve", "--engine", "scripted", "--embedder", "wordllama", "--port", "0"]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_told_to_stop_while_it_loads_stops(number: signal.Signals) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOADING]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(number)
        try:
            assert process.wait(timeout=20) != 0
        finally:
            process.kill()


def test_an_address_of_ipv6_is_announced_as_urls_have_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with icalign_serve(["--engine", "scripted", "--host", "::1"], log) as url:
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_server_told_to_stop_ends_what_is_under_way_and_takes_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text("- {text: one two three four five six, delay_s: 0.5}\n")
    arguments = ["--engine", "scripted", "--script", str(tmp_path / "script.yaml"), "--default-profile", "off"]
    question = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with icalign_process(arguments, tmp_path / "log") as (url, process):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=question) as response:
            lines = response.iter_lines()
            next(lines)
            process.terminate()
            while (late := httpx.post(f"{url}/v1/chat/completions", json=question)).status_code == 200:
                pass
            rest = list(lines)
        status = process.wait(timeout=10)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "draining")
    assert "data: [DONE]" in rest
    assert status in (0, -signal.SIGTERM)


def test_prepare_prints_the_folder_of_a_prepared_model(tmp_path: Path) -> None:
    result = run("prepare", next(iter(PACKAGED_MODELS)), folder=tmp_path)
    assert (Path(result.stdout.strip()) / "tokenizer.json").is_file()
