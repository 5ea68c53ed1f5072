"""icalign inside vLLM's own server, started with options of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import anyio
import httpx
import openai
import pytest

from server.core.types import Body
from server.engine.packaged import prepare_model
from server.engine.vllm import cpu_dtype
from server.profiles.store import load_profiles
from server.settings import default_cache_dir
from tests.conftest import PROMPTS
from tests.live.conftest import SMOLLM2, share_processors
from tests.live.test_smollm2 import QUESTION, long_request, running_requests, wait_for_running
from tests.servers import vllm_serve

KEY = {"Authorization": "Bearer k"}
CHAT = "/v1/chat/completions"
OPTIONS = ["--api-key", "k", "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-request-id-headers"]
TOOL = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
ROOT = Path(__file__).parents[2]
MAKE_APPLICATION = """
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

build_app(make_arg_parser(FlexibleArgumentParser()).parse_args([]), ("generate",))
print("went on")
"""


class Plugged(NamedTuple):
    """A running server."""

    url: str
    log: Path


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugged]:
    model = prepare_model(SMOLLM2, default_cache_dir() / "models", report=print)
    log = tmp_path_factory.mktemp("plugin") / "log"
    arguments = ["--model", str(model), "--served-model-name", SMOLLM2, "--max-model-len", "4096", "--enforce-eager"]
    arguments += ["--dtype", cpu_dtype()]
    environment = {"VLLM_PLUGINS": "icalign", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    share_processors()
    with vllm_serve([*arguments, *OPTIONS], log, environment) as url:
        yield Plugged(url, log)


@pytest.fixture
def client(plugged: Plugged) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=plugged.url, headers=KEY, timeout=120) as client:
        yield client


def question(profile: str, **fields: object) -> Body:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": f"{SMOLLM2}:{profile}", "messages": messages, "temperature": 0, "max_tokens": 20, **fields}


def test_the_package_offers_it_to_vllm() -> None:
    assert "icalign" in entry_points(group="vllm.endpoint_plugins").names


@pytest.mark.parametrize(("profile", "num_tokens"), [("default", range(200, 4096)), ("off", range(1, 60))])
def test_answers_are_aligned_by_their_profile(client: httpx.Client, profile: str, num_tokens: range) -> None:
    response = client.post(CHAT, json=question(profile))
    answer = response.json()
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["prompt_tokens"] in num_tokens
    assert response.headers["x-alignment-profile"].startswith(f"{profile}@")
    assert re.fullmatch(r"trace-\w{24}", response.headers["x-alignment-trace-id"])
    preview = client.post("/v1/alignment/render", json=question(profile)).json()
    assert preview["tokens"]["prompt"] == answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize("profile", ["default", "base", "off"])
def test_streams_are_aligned_as_whole_answers_are(client: httpx.Client, profile: str) -> None:
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    whole = client.post(CHAT, json=question(profile)).json()["usage"]["prompt_tokens"]
    response = client.post(CHAT, json=question(profile, **usage))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-alignment-profile"].startswith(f"{profile}@")
    assert f'"prompt_tokens":{whole}' in response.text
    assert response.text.endswith("data: [DONE]\n\n")


def test_the_first_chunk_comes_before_the_last_is_generated(client: httpx.Client, plugged: Plugged) -> None:
    with client.stream("POST", CHAT, json=long_request(f"{SMOLLM2}:default", stream=True)) as response:
        lines = response.iter_lines()  # kept, since the response closes with it
        assert next(lines).startswith("data: {")
        wait_for_running(plugged.url, 1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_dropped_client_leaves_no_running_request(plugged: Plugged, stream: bool) -> None:
    async def drop() -> None:
        body = long_request(f"{SMOLLM2}:default", stream=stream)
        async with httpx.AsyncClient(timeout=60, headers=KEY) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(_post, client, f"{plugged.url}{CHAT}", body)
            with anyio.fail_after(30):
                while running_requests(plugged.url) < 1:
                    await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()

    wait_for_running(plugged.url, 0)
    anyio.run(drop)
    wait_for_running(plugged.url, 0)


async def _post(client: httpx.AsyncClient, url: str, body: Body) -> None:
    await client.post(url, json=body)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/alignment/profiles"])
def test_every_path_asks_for_the_key(plugged: Plugged, path: str) -> None:
    assert httpx.get(plugged.url + path).status_code == 401
    assert httpx.get(plugged.url + path, headers=KEY).status_code == 200


def test_aligned_answers_ask_for_the_key(plugged: Plugged) -> None:
    assert httpx.post(plugged.url + CHAT, json=question("default")).status_code == 401


def test_models_are_listed_with_their_profiles(client: httpx.Client) -> None:
    names = [entry["id"] for entry in client.get("/v1/models").json()["data"]]
    assert names == [SMOLLM2, *(f"{SMOLLM2}:{profile}" for profile in sorted(load_profiles(PROMPTS)))]
    assert client.get(f"/v1/models/{SMOLLM2}:off").json()["parent"] == SMOLLM2


def test_metrics_count_each_request_once(client: httpx.Client) -> None:
    def counted() -> tuple[float, float]:
        metrics = client.get("/metrics").text
        http = r"http_requests_total\{handler=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"\} (\S+)"
        engine = r"^vllm:request_success_total\{.*finished_reason=\"length\".*\} (\S+)$"
        found = [re.search(line, metrics, re.MULTILINE) for line in (http, engine)]
        return tuple(float(match[1]) if match else 0.0 for match in found)  # type: ignore[return-value]

    before = counted()
    client.post(CHAT, json=question("default", max_tokens=1))
    assert counted() == (before[0] + 1, before[1] + 1)


def test_the_servers_options_are_in_force(client: httpx.Client) -> None:
    tools = [{"type": "function", "function": TOOL}]
    response = client.post(CHAT, json=question("default", tools=tools), headers={"X-Request-Id": "mine"})
    assert response.status_code == 200
    assert response.headers.get_list("x-request-id") == ["mine"]


def test_errors_of_the_engine_and_of_alignment_reach_the_client(client: httpx.Client) -> None:
    unknown = client.post(CHAT, json=question("default") | {"model": SMOLLM2, "alignment": {"profile": "nobody"}})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "profile_not_found")
    refused = client.post(CHAT, json=question("default", max_tokens=-1))
    assert (refused.status_code, "max_tokens" in refused.text) == (400, True)


def test_the_openai_sdk_works(plugged: Plugged) -> None:
    sdk = openai.OpenAI(base_url=f"{plugged.url}/v1", api_key="k", max_retries=0)
    answer = sdk.chat.completions.create(model=SMOLLM2, messages=[{"role": "user", "content": QUESTION}], max_tokens=8)
    assert answer.choices[0].message.content


def test_the_server_says_that_it_is_ready_and_logs_traces(client: httpx.Client, plugged: Plugged) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    trace_id = client.post(CHAT, json=question("default", max_tokens=1)).headers["x-alignment-trace-id"]
    deadline = time.monotonic() + 5
    while f'"trace_id":"{trace_id}"' not in plugged.log.read_text("utf-8"):
        assert time.monotonic() < deadline, "the trace is not in the log"
        time.sleep(0.05)


def test_vllm_does_not_go_on_without_a_misconfigured_plugin() -> None:
    """It makes its application once its engine runs, and looks away from most of what is wrong with a plugin."""
    environment = {**os.environ, "VLLM_PLUGINS": "icalign", "ICALIGN_UPSTREAM": "http://host/v1"}
    command = [sys.executable, "-c", MAKE_APPLICATION]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "icalign: upstream: inside a vLLM server that server is the engine; unset this.\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert "went on" not in result.stdout
