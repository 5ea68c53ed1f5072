"""Answers of the responses and messages endpoints, whose streams have named events and no [DONE]."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import httpx
import openai
import orjson
import pytest
from anthropic.types import MessageParam
from fastapi.testclient import TestClient
from pydantic import BaseModel

from server.core.errors import EngineUnavailableError
from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from tests.conftest import AppFactory
from tests.servers import served

RESPONSE: Body = {"id": "r", "object": "response", "status": "completed", "instructions": "what the engine got"}
MESSAGE: Body = {"type": "message", "id": "i", "content": [{"type": "output_text", "text": "Hi"}]}
ANSWERED: Body = {**RESPONSE, "output": [MESSAGE]}
STREAMS: dict[str, list[Body]] = {
    "/v1/responses": [
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}},
        {"type": "response.output_text.delta", "item_id": "i", "delta": "Hi"},
        {"type": "response.completed", "response": ANSWERED},
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
            whole = ANSWERED if request.path == "/v1/responses" else {"type": "message", "id": "m"}
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


def ask_base(make_app: AppFactory, path: str, engine: ScriptedEngine, **fields: object) -> httpx.Response:
    with served(make_app(engine)) as url:
        return httpx.post(url + path, json={**BODIES[path], "model": "m:base", **fields})


@pytest.mark.parametrize("path", list(STREAMS))
@pytest.mark.parametrize("stream", [False, True])
def test_a_base_model_is_asked_for_a_completion(make_app: AppFactory, path: str, stream: bool) -> None:
    engine = ScriptedEngine([ScriptedAnswer("one two")])
    response = ask_base(make_app, path, engine, stream=stream)
    assert response.headers["x-alignment-profile"].startswith("base@")
    assert [call.path for call in engine.calls] == ["/v1/completions"]
    if stream:
        assert [name for name, _ in frames(response.text)] == [event["type"] for _, event in frames(response.text)]
        deltas = [event["delta"] for name, event in frames(response.text) if name.endswith("delta")]
        texts = [delta if isinstance(delta, str) else delta.get("text") for delta in deltas]
        assert texts[:2] == ["one ", "two"]
    else:
        shown = response.json()
        (block,) = shown["output"][0]["content"] if path == "/v1/responses" else shown["content"]
        assert block["text"] == "one two"


@pytest.mark.parametrize("path", list(STREAMS))
@pytest.mark.parametrize("stream", [False, True])
def test_a_base_models_answer_carries_the_trace_on_request(make_app: AppFactory, path: str, stream: bool) -> None:
    response = ask_base(make_app, path, ScriptedEngine(), stream=stream, alignment={"trace": True})
    last = frames(response.text)[-1][1] if stream else response.json()
    assert last.get("response", last)["alignment"]["profile"] == "base"


@pytest.mark.parametrize("stream", [False, True])
def test_a_base_models_response_shows_what_the_client_and_the_profile_gave(make_app: AppFactory, stream: bool) -> None:
    text = ask_base(make_app, "/v1/responses", ScriptedEngine(), stream=stream).text
    shown = [event["response"] for _, event in frames(text) if "response" in event] if stream else [orjson.loads(text)]
    found = {(each["instructions"], each["temperature"], each["max_output_tokens"]) for each in shown}
    assert found == {("Terse.", 0.7, 512)}


class FailingEngine(ScriptedEngine):
    """Streams `num_words` of a completion and then an error, as vLLM does."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self._num_words = num_words

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        yield EngineReply(200, {"content-type": "text/event-stream"}, self._events())

    async def _events(self) -> AsyncIterator[bytes]:
        event = {"id": "cmpl-1", "created": 1, "model": "m", "choices": [{"index": 0, "text": "x"}]}
        error = {"error": {"message": "The cache is full.", "type": "InternalServerError", "code": 500}}
        for each in [event] * self._num_words + [error]:
            yield b"data: %s\n\n" % orjson.dumps(each)
        yield b"data: [DONE]\n\n"


@pytest.mark.parametrize("path", list(STREAMS))
@pytest.mark.parametrize("trace", [False, True])
def test_the_engines_error_is_the_last_event_of_a_base_models_stream(
    make_app: AppFactory, path: str, trace: bool
) -> None:
    *before, (name, last) = frames(
        ask_base(make_app, path, FailingEngine(2), stream=True, alignment={"trace": trace}).text
    )
    assert len(before) >= 4
    assert (name, last["error"]["message"]) == ("error", "The cache is full.")
    assert (last.get("type") == "error") is (path == "/v1/messages")


@pytest.mark.parametrize("path", list(STREAMS))
def test_a_base_models_early_error_has_a_status(make_app: AppFactory, path: str) -> None:
    response = ask_base(make_app, path, FailingEngine(0), stream=True)
    assert (response.status_code, response.json()["error"]["message"]) == (500, "The cache is full.")


def test_openai_reads_a_base_models_response(make_app: AppFactory) -> None:
    with (
        served(make_app(ScriptedEngine([ScriptedAnswer("one two")]))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client,
    ):
        whole = client.responses.create(model="m:base", input="Hi")
        events = list(client.responses.create(model="m:base", input="Hi", stream=True))
        with client.responses.stream(model="m:base", input="Hi") as stream:
            final = stream.get_final_response()
    last = events[-1]
    assert last.type == "response.completed"
    for response in (whole, last.response, final):
        assert (response.status, response.output_text) == ("completed", "one two")
        assert response.usage is not None
        assert response.usage.output_tokens == 2
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["one ", "two"]


def test_openai_reads_a_base_models_structured_response(make_app: AppFactory) -> None:
    class Verdict(BaseModel):
        useful: bool

    engine = ScriptedEngine([ScriptedAnswer('{"useful": true}')])
    with served(make_app(engine)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        whole = client.responses.parse(model="m:base", input="Hi", text_format=Verdict)
        with client.responses.stream(model="m:base", input="Hi", text_format=Verdict) as stream:
            final = stream.get_final_response()
    assert whole.output_parsed == final.output_parsed == Verdict(useful=True)
    formats = [orjson.loads(call.content)["response_format"] for call in engine.calls]
    assert [each["json_schema"]["name"] for each in formats] == ["Verdict"] * 2


def test_openai_raises_for_what_a_base_model_cannot_do(make_app: AppFactory) -> None:
    with (
        served(make_app()) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.responses.create(model="m:base", input="Hi", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


def test_anthropic_reads_a_base_models_message(make_app: AppFactory) -> None:
    hello: MessageParam = {"role": "user", "content": "Hi"}
    with (
        served(make_app(ScriptedEngine([ScriptedAnswer("one two")]))) as url,
        anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client,
    ):
        whole = client.messages.create(model="m:base", max_tokens=9, messages=[hello])
        with client.messages.stream(model="m:base", max_tokens=9, messages=[hello]) as stream:
            texts = list(stream.text_stream)
            final = stream.get_final_message()
    assert texts == ["one ", "two"]
    for message in (whole, final):
        assert [block.text for block in message.content if block.type == "text"] == ["one two"]
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 2)
        assert message.usage.input_tokens > 100
