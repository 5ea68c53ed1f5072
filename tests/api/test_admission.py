"""Keys, limits and sizes, on every path alike."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.replies import once
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from server.settings import ApiKey
from tests.conftest import AppFactory
from tests.servers import served

CHAT = "/v1/chat/completions"
KEYS = [
    ApiKey(name="all", key=SecretStr("k1")),
    ApiKey(name="bound", key=SecretStr("k2"), profiles=["base", "default"]),
]
PATHS = [
    ("POST", CHAT),
    ("POST", "/v1/chat/completions/batch"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/embeddings"),
    ("POST", "/tokenize"),
    ("POST", "/v1/alignment/render"),
    ("POST", "/v1/alignment/retrieve"),
    ("GET", "/v1/alignment/profiles"),
    ("GET", "/v1/models"),
    ("GET", "/nowhere"),
]


def question(**fields: object) -> Body:
    return {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], **fields}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def client(make_app: AppFactory, engine: ScriptedEngine) -> Iterator[TestClient]:
    with TestClient(make_app(engine, api_keys=KEYS)) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"authorization": "k1"}, {"x-api-key": "wrong"}])
def test_without_a_known_key_nothing_is_answered(
    client: TestClient, engine: ScriptedEngine, method: str, path: str, headers: dict[str, str]
) -> None:
    response = client.request(method, path, json=question() if method == "POST" else None, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-alignment-trace-id"].startswith("trace-")
    assert not engine.calls


@pytest.mark.parametrize("headers", [bearer("k1"), {"x-api-key": "k1"}, {"authorization": "bearer k1"}])
def test_a_key_opens_and_stays_here(client: TestClient, engine: ScriptedEngine, headers: dict[str, str]) -> None:
    assert client.post(CHAT, json=question(), headers=headers).status_code == 200
    assert not {"authorization", "x-api-key"} & set(engine.calls[0].headers)


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_who_watches_needs_no_key(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


class HeaderEngine(ScriptedEngine):
    """Keeps the headers of whatever it is asked, and answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[Mapping[str, str]] = []

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        self.headers.append(request.headers)
        yield EngineReply(200, {"content-type": "application/json"}, once(b'{"data": []}'))


@pytest.mark.parametrize("path", ["/ready", "/metrics", "/version", "/ping"])
@pytest.mark.parametrize("headers", [bearer("k1"), {"x-api-key": "k1"}])
def test_a_key_that_was_not_needed_stays_here_too(make_app: AppFactory, path: str, headers: dict[str, str]) -> None:
    engine = HeaderEngine()
    with TestClient(make_app(engine, api_keys=KEYS)) as client:
        assert client.get(path, headers=headers).status_code == 200
    assert engine.headers
    assert not any({"authorization", "x-api-key"} & set(sent) for sent in engine.headers)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/chat/completions/batch"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_bound_key_gets_its_profiles_only(
    client: TestClient, engine: ScriptedEngine, path: str, stream: bool
) -> None:
    def ask(**fields: object) -> Any:
        messages = question()["messages"]
        body = question(prompt="Hi", stream=stream, messages=[messages] if "batch" in path else messages, **fields)
        return client.post(path, json=body, headers=bearer("k2"))

    response = ask(model="scripted:off")
    assert (response.status_code, response.json()["error"]["code"]) == (403, "profile_not_allowed")
    assert ask(alignment={"profile": "off"}).status_code == 403
    assert not engine.calls
    # The server's default is among the key's; completions, which are plain otherwise, have it too and cannot carry it.
    assert ask().status_code == (400 if path == "/v1/completions" else 200)
    assert ask(model="scripted:base").headers["x-alignment-profile"].startswith("base@")


def test_a_bound_key_sees_its_profiles_only(client: TestClient) -> None:
    models = client.get("/v1/models", headers=bearer("k2")).json()["data"]
    assert [model["id"] for model in models] == ["scripted", "scripted:base", "scripted:default"]
    profiles = client.get("/v1/alignment/profiles", headers=bearer("k2")).json()["data"]
    assert {profile["id"] for profile in profiles} == {"base", "default"}
    assert client.post("/v1/embeddings", json={"model": "m:off"}, headers=bearer("k2")).status_code == 403


def test_the_trace_names_the_key(client: TestClient) -> None:
    body = client.post(CHAT, json=question(alignment={"trace": True}), headers=bearer("k2")).json()
    assert body["alignment"]["key"] == "bound"


@pytest.mark.parametrize("path", [path for method, path in PATHS if method == "POST"])
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_large_body_is_refused_before_it_is_read(
    make_app: AppFactory, engine: ScriptedEngine, path: str, is_announced: bool
) -> None:
    content = b'{"model": "scripted", "messages": "%s"}' % (b"x" * 3000)
    pieces = (content[i : i + 500] for i in range(0, len(content), 500))
    with TestClient(make_app(engine, max_body_bytes=2048)) as client:
        headers = {"content-type": "application/json"}
        response = client.post(path, content=content if is_announced else pieces, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
    assert "2048 bytes" in response.json()["error"]["message"]
    assert not engine.calls


@pytest.mark.parametrize("stream", [False, True])
def test_no_more_requests_at_once_than_allowed(make_app: AppFactory, stream: bool) -> None:
    app = make_app(ScriptedEngine([ScriptedAnswer("one two", delay_s=0.3)]), max_requests=2)
    statuses: list[int] = []

    async def ask(client: httpx.AsyncClient) -> None:
        response = await client.post(CHAT, json=question(stream=stream, model="scripted:off"))
        statuses.append(response.status_code)
        if response.status_code == 429:
            assert response.headers["retry-after"] == "1"
            assert response.json()["error"]["code"] == "too_many_requests"

    async def run(url: str) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            for expected in ([200, 200, 429, 429], [200]):
                async with anyio.create_task_group() as tasks:
                    for _ in expected:
                        tasks.start_soon(ask, client)
                assert sorted(statuses) == expected
                statuses.clear()
                # A client has its answer a moment before the server is done with it.
                while app.state.admission.num_requests:
                    await anyio.sleep(0.01)
            assert (await client.get("/health")).status_code == 200

    with served(app) as url:
        anyio.run(run, url)
    assert app.state.admission.num_requests == 0


def test_a_stopping_server_takes_no_new_requests(make_app: AppFactory) -> None:
    app = make_app()
    with TestClient(app) as client:
        app.state.admission.is_draining = True
        responses = [client.post(CHAT, json=question()), client.get("/ready")]
        assert client.get("/health").status_code == 200
    for response in responses:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
        assert response.headers["retry-after"] == "5"


def test_pages_of_a_listed_origin_may_ask(make_app: AppFactory) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    with TestClient(make_app(cors_origins=["https://app.example"], api_keys=KEYS)) as client:
        assert client.options(CHAT, headers=headers).headers["access-control-allow-origin"] == "https://app.example"
        refused = client.post(CHAT, json=question(), headers={"origin": "https://app.example"})
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    with TestClient(make_app()) as client:
        assert "access-control-allow-origin" not in client.options(CHAT, headers=headers).headers


def test_anthropics_clients_find_the_error_where_they_look(client: TestClient) -> None:
    body = client.post("/v1/messages", json=question()).json()
    assert body["type"] == "error"
    assert set(body["error"]) == {"message", "type", "param", "code"}
