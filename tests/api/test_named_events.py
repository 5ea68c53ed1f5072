"""Answers of the responses and messages endpoints, whose streams have named events and no [DONE]."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from fastapi.testclient import TestClient

from server.core.errors import EngineUnavailableError
from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.scripted import ScriptedEngine
from tests.conftest import AppFactory

RESPONSE: Body = {"id": "r", "object": "response", "status": "completed", "instructions": "what the engine got"}
STREAMS: dict[str, list[Body]] = {
    "/v1/responses": [
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.completed", "response": RESPONSE},
    ],
    "/v1/messages": [
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_stop"},
    ],
}
BODIES: dict[str, Body] = {
    "/v1/responses": {"model": "m", "input": "How do I bake bread?", "instructions": "Terse."},
    "/v1/messages": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "How do I bake bread?"}]},
}


class NamedEngine(ScriptedEngine):
    """Replays one of the streams above, or a whole answer of the kind; breaks off before the end on request."""

    def __init__(self, *, num_events: int = 3) -> None:
        super().__init__()
        self._num_events = num_events

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        if request.path not in STREAMS:
            async with super().open(request) as reply:
                yield reply
            return
        self.calls.append(request)
        events, body = STREAMS[request.path], orjson.loads(request.content)
        if body.get("stream"):
            yield EngineReply(200, {"content-type": "text/event-stream"}, self._stream(events))
        else:
            whole = RESPONSE if request.path == "/v1/responses" else {"type": "message", "id": "m"}
            yield EngineReply(200, {"content-type": "application/json"}, self._whole(whole))

    async def _whole(self, body: Body) -> AsyncIterator[bytes]:
        yield orjson.dumps(body)

    async def _stream(self, events: list[Body]) -> AsyncIterator[bytes]:
        for event in events[: self._num_events]:
            yield b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
        if self._num_events < len(events):
            raise EngineUnavailableError("The engine died.")


def frames(text: str) -> list[tuple[str, Body]]:
    *found, last = text.split("\n\n")
    assert last == ""
    pairs = (frame.split("\n") for frame in found)
    return [(name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))) for name, data in pairs]


def ask(engine: NamedEngine, make_app: AppFactory, path: str, **fields: object) -> str:
    with TestClient(make_app(engine)) as client:
        response = client.post(path, json={**BODIES[path], **fields})
    assert response.headers["x-alignment-profile"].startswith("default@")
    return response.text


@pytest.mark.parametrize("path", list(STREAMS))
@pytest.mark.parametrize("trace", [False, True])
def test_a_stream_keeps_its_events(make_app: AppFactory, path: str, trace: bool) -> None:
    found = frames(ask(NamedEngine(), make_app, path, stream=True, alignment={"trace": trace}))
    assert [name for name, _ in found] == [event["type"] for _, event in found] == [e["type"] for e in STREAMS[path]]
    last = found[-1][1].get("response", found[-1][1])
    assert ("alignment" in last) is trace
    if trace:
        assert (last["alignment"]["outcome"], len(last["alignment"]["demonstrations"])) == ("ok", 4)


@pytest.mark.parametrize("path", list(STREAMS))
def test_a_whole_answer_carries_the_trace_on_request(make_app: AppFactory, path: str) -> None:
    assert "alignment" not in orjson.loads(ask(NamedEngine(), make_app, path))
    assert (
        orjson.loads(ask(NamedEngine(), make_app, path, alignment={"trace": True}))["alignment"]["profile"] == "default"
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_shows_the_instructions_that_the_client_gave(make_app: AppFactory, stream: bool) -> None:
    engine = NamedEngine()
    text = ask(engine, make_app, "/v1/responses", stream=stream)
    assert "Terse." in orjson.loads(engine.calls[0].content)["instructions"]
    shown = [event["response"] for _, event in frames(text) if "response" in event] if stream else [orjson.loads(text)]
    assert {response["instructions"] for response in shown} == {"Terse."}


@pytest.mark.parametrize("path", list(STREAMS))
@pytest.mark.parametrize("trace", [False, True])
def test_a_late_error_is_one_named_event(make_app: AppFactory, path: str, trace: bool) -> None:
    text = ask(NamedEngine(num_events=2), make_app, path, stream=True, alignment={"trace": trace})
    *_, (name, last) = frames(text)
    assert (name, last["error"]["code"]) == ("error", "engine_unavailable")
    assert (last.get("type") == "error") is (path == "/v1/messages")


@pytest.mark.parametrize("path", list(STREAMS))
def test_completion_rendering_is_refused_with_what_would_do(make_app: AppFactory, path: str) -> None:
    engine = NamedEngine()
    with TestClient(make_app(engine)) as client:
        response = client.post(path, json={**BODIES[path], "model": "m:base"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")
    assert "name one with chat rendering" in response.json()["error"]["message"]
    assert not engine.calls
