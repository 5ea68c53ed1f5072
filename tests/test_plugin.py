"""The plugin in a small server made the way vLLM makes its own. The real one is in tests/live."""

import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import prometheus_client
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from server.plugin import Plugin
from tests.api.test_openapi import check_document
from tests.engine.test_contract import WORDS, Backend
from tests.servers import served

KEY = {"authorization": "Bearer k"}
CHAT = "/v1/chat/completions"


class Key:
    """Middleware that asks for a key, and counts how often it is passed."""

    num_passed = 0

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            if (b"authorization", b"Bearer k") not in scope["headers"]:
                await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
                return
            Key.num_passed += 1
        await self._app(scope, receive, send)


class Host(Backend):
    """A server that keeps what reaches it and has a plugin attached, in vLLM's order of doing things."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.bodies: list[Any] = []
        self.alive = False
        self.app.state.args = Namespace(model=str(model), tokenizer=None)
        self.app.post("/tokenize")(self.tokenize)
        self.app.post("/v1/other")(self.tokenize)
        self.app.get("/version")(self.version)
        self.app.router.lifespan_context = self.lifespan
        stock = list(self.app.routes)
        Plugin().attach_router(self.app)
        self.replace(stock)
        self.app.add_exception_handler(ValueError, self.handle)
        self.app.add_middleware(Key)

    def replace(self, stock: list[Any]) -> None:
        """What vLLM does with a plugin's routes: they stand in for those of the same path and method."""
        added = [route for route in self.app.routes if route not in stock]
        assert all(isinstance(route, APIRoute) for route in added)
        taken = {(route.path, method) for route in added if isinstance(route, APIRoute) for method in route.methods}
        kept = [route for route in stock if not {(route.path, method) for method in route.methods or ()} & taken]
        self.app.router.routes[:] = [*kept, *added]

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        app.state.secret = "of the host"
        self.alive = True
        yield
        self.alive = False

    async def chat(self, request: Request) -> Response:
        self.bodies.append(orjson.loads(await request.body()))
        return await super().chat(request)

    async def tokenize(self, request: Request) -> Response:
        raise ValueError(request.app.state.secret)

    async def version(self) -> Response:
        return JSONResponse({"version": "stock"})

    async def handle(self, _: Request, error: Exception) -> Response:
        return JSONResponse({"error": {"message": f"handled {error}"}}, 418)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tokenizer."""
    Tokenizer(WordLevel({"word": 0, "?": 1}, "?")).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.fixture
def host(model: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("ICALIGN_EMBEDDER", "wordllama")
    return Host(model)


@pytest.fixture
def client(host: Host) -> Iterator[httpx.Client]:
    with served(host.app) as url, httpx.Client(base_url=url, headers=KEY) as client:
        yield client


def body(profile: str, **fields: object) -> dict[str, object]:
    return {"model": f"m:{profile}", "messages": [{"role": "user", "content": "Hi"}], **fields}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_aligned_on_its_way_to_the_stock_route(client: httpx.Client, host: Host, stream: bool) -> None:
    response = client.post(CHAT, json=body("default", stream=stream))
    (sent,) = host.bodies
    assert sent["model"] == "m"
    assert len(sent["messages"]) > 3
    assert sent["messages"][-1]["content"] == "Hi"
    assert response.headers["x-alignment-profile"].startswith("default@")
    assert response.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert WORDS in response.text or stream


def test_off_passes_through(client: httpx.Client, host: Host) -> None:
    response = client.post(CHAT, json=body("off"))
    assert host.bodies == [body("off") | {"model": "m"}]
    assert response.json()["choices"][0]["message"]["content"] == WORDS


def test_a_client_that_goes_away_ends_the_work_behind(client: httpx.Client, host: Host) -> None:
    with client.stream("POST", CHAT, json=body("default", stream=True)) as response:
        next(response.iter_lines())
    deadline = time.monotonic() + 5
    while not host.ended:
        assert time.monotonic() < deadline, "the stream goes on"
        time.sleep(0.01)
    assert host.ended == ["cancelled"]


def test_the_hosts_middleware_guards_what_it_did_not_know(client: httpx.Client) -> None:
    for path in ("/v1/models", "/v1/alignment/profiles"):
        assert httpx.get(client.base_url.join(path)).status_code == 401
        assert client.get(path).status_code == 200


def test_the_hosts_middleware_is_passed_once(client: httpx.Client) -> None:
    Key.num_passed = 0
    client.post(CHAT, json=body("default"))
    assert Key.num_passed == 1


def test_stock_routes_keep_the_hosts_state_and_error_handlers(client: httpx.Client) -> None:
    replaced, kept = client.post("/tokenize", json={}), client.post("/v1/other", json={})
    assert (replaced.status_code, replaced.json()) == (kept.status_code, kept.json())
    assert (kept.status_code, kept.json()["error"]["message"]) == (418, "handled of the host")
    assert "x-alignment-trace-id" in replaced.headers
    assert "x-alignment-trace-id" not in kept.headers


def test_what_watches_the_server_stays_the_hosts(client: httpx.Client, host: Host) -> None:
    assert client.get("/version").json() == {"version": "stock"}
    assert (client.get("/health").content, client.get("/ready").json()) == (b"", {"status": "ready"})
    host.health_status = 503
    assert client.get("/ready").status_code == 503


def test_metrics_are_among_those_of_the_host_while_it_lives(client: httpx.Client) -> None:
    client.post(CHAT, json=body("default"))
    deadline = time.monotonic() + 5
    # A request is over, and counted, when all of its answer is sent; the client may have it a moment before.
    while b'icalign_requests_total{outcome="ok",profile="default"} 1.0' not in prometheus_client.generate_latest():
        assert time.monotonic() < deadline, "it is not counted"
        time.sleep(0.01)
    assert b"icalign_prompts_info" in prometheus_client.generate_latest()


def test_metrics_go_with_the_host(host: Host) -> None:
    with served(host.app):
        assert b"icalign_" in prometheus_client.generate_latest()
    assert b"icalign_" not in prometheus_client.generate_latest()


def test_a_root_path_is_taken_off(host: Host) -> None:
    host.app.root_path = "/llm"
    with served(host.app) as url:
        response = httpx.post(f"{url}/llm/tokenize", json={"model": "m:off", "prompt": "Hi"})
    assert response.json()["error"]["message"] == "handled of the host"


def test_the_hosts_description_shows_the_routes(host: Host) -> None:
    described = host.app.openapi()["paths"]
    assert "aligned by its profile" in described[CHAT]["post"]["description"]
    assert {"/v1/alignment/profiles", "/v1/other", "/ready"} <= set(described)
    assert "requestBody" in described[CHAT]["post"]
    assert "requestBody" not in described["/v1/other"]["post"]
    check_document(host.app.openapi())


def test_the_hosts_life_goes_on_around_it(host: Host) -> None:
    with served(host.app):
        assert host.alive
    assert not host.alive


def test_settings_and_the_models_tokenizer_are_in_force(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "icalign.toml").write_text('default_profile = "off"\nembedder = "wordllama"\nport = 1\nmodel = "x"\n')
    with served(Host(model).app) as url, httpx.Client(base_url=url, headers=KEY) as client:
        assert client.get("/v1/alignment/profiles").json()["default"] == "off"
        preview = client.post("/v1/alignment/render", json=body("default")).json()
    assert preview["tokens"]["tokenizer"] == model.name


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("UPSTREAM", "http://host/v1", "upstream: inside a vLLM server that server is the engine"),
        ("ENGINE_ARGS", "--enforce-eager", "engine_args: inside a vLLM server"),
        ("ENGINE", "scripted", "engine: scripted cannot run inside a vLLM server"),
        ("DEFAULT_PROFILE", "nobody", "default_profile: there is no profile 'nobody'"),
        ("TOKENIZER", "/nowhere", "tokenizer: cannot load one"),
        ("PORT", "x", "port: .*found 'x'"),
    ],
)
def test_a_bad_configuration_ends_the_server_with_one_message(
    model: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """SystemExit passes those who catch an Exception and go on without the plugin."""
    monkeypatch.setenv(f"ICALIGN_{name}", value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit, match=f"^icalign: {words}"):
        Host(model)


def test_loading_the_plugin_loads_no_more_of_icalign() -> None:
    """What fails to load is left out by vLLM, which then serves without alignment."""
    program = "import sys, server.plugin; print([name for name in sys.modules if name.startswith('server.')])"
    root = Path(__file__).parent.parent
    loaded = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "['server.plugin']"
