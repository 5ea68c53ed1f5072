import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from server import pipeline
from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.replies import once
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from server.engine.upstream import UpstreamEngine
from tests.conftest import AppFactory
from tests.servers import served

CHAT = "/v1/chat/completions"
ENGINES_OWN = b"# HELP engine_steps_total Steps.\n# TYPE engine_steps_total counter\nengine_steps_total 7.0\n"


class MeasuredEngine(ScriptedEngine):
    """Answers `content` where it is asked for metrics, and keeps the headers it was asked with."""

    def __init__(self, content: bytes, content_type: str = "text/plain; version=0.0.4", status: int = 200) -> None:
        super().__init__()
        self._metrics = EngineReply(status, {"content-type": content_type}, once(content))
        self.headers: dict[str, str] = {}

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        if request.path == "/metrics":
            self.headers = dict(request.headers)
            yield self._metrics
        else:
            async with super().open(request) as reply:
                yield reply


def question(**fields: object) -> Body:
    return {"model": "scripted", "messages": [{"role": "user", "content": "How do I bake bread?"}], **fields}


def samples(client: Any) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, which come in the order of their names."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.text)
    return {(item.name, *item.labels.values()): item.value for family in families for item in family.samples}


def test_prompts_in_force_are_shown(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        found, shown = samples(client), client.get("/v1/alignment/profiles").json()
    assert found["icalign_prompts_info", shown["version"]] == 1
    for profile in shown["data"]:
        assert found["icalign_profile_info", profile["id"], profile["version"]] == 1
    assert int(found["icalign_prompts_loaded_timestamp_seconds",]) == shown["loaded_at"]
    for name in ("icalign_prompts_changes_total", "icalign_prompts_failures_total", "icalign_prompts_findings"):
        assert found[name,] == 0


def test_requests_and_tokens_are_counted_by_profile(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("no", match="fail", status=500)])
    failing = question(messages=[{"role": "user", "content": "fail"}])
    with TestClient(make_app(engine)) as client:
        for body in (question(), question(stream=True), question(model="scripted:base"), question(model="m:off")):
            assert client.post(CHAT, json=body).status_code == 200
        for body in (failing, failing | {"stream": True}, question(model="scripted:base", tools=[{}], n="x")):
            assert client.post(CHAT, json=body).status_code >= 400
        assert client.post(CHAT, json=question(alignment={"profile": "nobody"})).status_code == 404
        trace = client.post(CHAT, json=question(alignment={"trace": True})).json()["alignment"]
        # What generates nothing is not counted.
        client.post("/v1/alignment/render", json=question())
        client.get("/v1/models")
        found = samples(client)
    counted = {key[1:]: value for key, value in found.items() if key[0] == "icalign_requests_total"}
    assert counted == {
        ("ok", "default"): 3,
        ("error", "default"): 2,
        ("ok", "base"): 1,
        ("error", "base"): 1,
        ("ok", "off"): 1,
    }
    tokens = {key[1]: value for key, value in found.items() if key[0] == "icalign_alignment_tokens_total"}
    assert tokens["default"] > 3 * trace["tokens"]["alignment"] - 1
    assert tokens["base"] > 100
    assert tokens["off"] == 0


def test_the_engines_come_first_and_ours_after(make_app: AppFactory) -> None:
    for content in (ENGINES_OWN, ENGINES_OWN.rstrip()):
        engine = MeasuredEngine(content)
        with TestClient(make_app(engine)) as client:
            assert samples(client)["engine_steps_total",] == 7
            text = client.get("/metrics", headers={"accept": "application/openmetrics-text"}).text
            assert engine.headers["accept"] == "text/plain", "after the other format nothing may follow"
        assert text.startswith("# HELP")


@pytest.mark.parametrize(
    "engine",
    [
        ScriptedEngine(),
        MeasuredEngine(b"nothing here", status=404),
        MeasuredEngine(b"<h1>A page</h1>", content_type="text/html"),
        MeasuredEngine(b"# EOF\n", content_type="application/openmetrics-text"),
        UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(lambda _: httpx.Response(404))),
    ],
    ids=["none", "404", "a page", "another format", "upstream"],
)
def test_without_the_engines_there_are_ours(make_app: AppFactory, engine: Any) -> None:
    with TestClient(make_app(engine)) as client:
        assert {name.partition("_")[0] for name, *_ in samples(client)} == {"icalign"}


def test_an_upstream_that_is_down_or_silent_does_not_hide_ours(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(ScriptedEngine):
        @asynccontextmanager
        async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
            await anyio.sleep_forever()
            yield EngineReply(200, {}, once(b""))

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(pipeline, "_METRICS_PATIENCE_S", 0.1)
    for engine in (Silent(), UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(refuse))):
        with TestClient(make_app(engine)) as client:
            assert samples(client)["icalign_prompts_findings",] == 0


def test_a_client_that_leaves_is_counted(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("one two three four", delay_s=0.2)])
    with served(make_app(engine)) as url, httpx.Client(base_url=url) as client:
        with client.stream("POST", CHAT, json=question(stream=True)) as response:
            next(response.iter_lines())
        deadline = time.monotonic() + 5
        while ("icalign_requests_total", "disconnected", "default") not in samples(client):
            assert time.monotonic() < deadline, "it is not counted"
            time.sleep(0.01)
