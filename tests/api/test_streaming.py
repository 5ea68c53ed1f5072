"""Streams and disconnects over real sockets."""

import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.lowlevel
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from server.core.errors import EngineUnavailableError
from server.engine.base import EngineReply, EngineRequest
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from tests.conftest import AppFactory
from tests.servers import served

QUESTION = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


class WatchedEngine(ScriptedEngine):
    """Counts the requests that are open."""

    num_open = 0
    num_opened = 0

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        if request.method == "GET":  # the list of models, asked for once
            async with super().open(request) as reply:
                yield reply
            return
        self.num_open += 1
        self.num_opened += 1
        try:
            async with super().open(request) as reply:
                yield reply
        finally:
            self.num_open -= 1


class BreakingEngine(ScriptedEngine):
    """Breaks after `num_chunks` chunks."""

    def __init__(self, num_chunks: int, *, frame: bytes = b'data: {"choices": []}\n\n') -> None:
        super().__init__()
        self._num_chunks = num_chunks
        self._frame = frame

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        yield EngineReply(200, {"content-type": "text/event-stream"}, self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        for _ in range(self._num_chunks):
            yield self._frame
        raise EngineUnavailableError("The engine died.")


@pytest.fixture
def slow() -> WatchedEngine:
    return WatchedEngine([ScriptedAnswer("one two three four five six", delay_s=0.1)])


@pytest.fixture
def slow_url(make_app: AppFactory, slow: WatchedEngine) -> Iterator[str]:
    with served(make_app(slow)) as url:
        yield url


@pytest.mark.parametrize("profile", ["default", "base", "off"])
def test_the_first_chunk_arrives_long_before_the_last(slow_url: str, profile: str) -> None:
    body = {**QUESTION, "model": f"scripted:{profile}"}
    times = []
    with httpx.stream("POST", f"{slow_url}/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line:
                times.append(time.monotonic())
    assert len(times) >= 7
    assert times[-1] - times[0] > 0.4


@pytest.mark.parametrize("profile", ["default", "base"])
@pytest.mark.parametrize("num_chunks", [0, 3])
def test_a_client_that_goes_away_leaves_nothing_open(
    slow_url: str, slow: WatchedEngine, profile: str, num_chunks: int
) -> None:
    async def visit() -> None:
        async with httpx.AsyncClient() as client:
            body = {**QUESTION, "model": f"scripted:{profile}"}
            async with client.stream("POST", f"{slow_url}/v1/chat/completions", json=body) as response:
                lines = response.aiter_lines()
                for _ in range(num_chunks):
                    await anext(lines)
        with anyio.fail_after(0.35):
            while slow.num_open:
                await anyio.sleep(0.01)

    anyio.run(visit)
    assert slow.num_opened == 1


def test_a_client_that_goes_away_before_the_first_chunk_leaves_nothing_open(make_app: AppFactory) -> None:
    engine = WatchedEngine([ScriptedAnswer("late", delay_s=30)])

    async def visit(url: str) -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(f"{url}/v1/chat/completions", json=QUESTION, timeout=0.3)
        with anyio.fail_after(2):
            while engine.num_open:
                await anyio.sleep(0.01)

    with served(make_app(engine)) as url:
        anyio.run(visit, url)
    assert engine.num_opened == 1


@pytest.mark.parametrize("profile", ["default", "base"])
def test_an_error_before_the_first_chunk_has_a_status(make_app: AppFactory, profile: str) -> None:
    with served(make_app(BreakingEngine(0))) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "model": f"scripted:{profile}"})
    assert response.status_code == 503
    assert response.json()["error"]["message"] == "The engine died."


def test_an_error_frame_that_comes_first_has_a_status(make_app: AppFactory) -> None:
    frame = b'data: {"error": {"message": "too long", "code": 400}}\n\n'
    with served(make_app(BreakingEngine(1, frame=frame))) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=QUESTION)
    assert (response.status_code, response.json()["error"]["message"]) == (400, "too long")


@pytest.mark.parametrize("profile", ["default", "base"])
def test_a_late_error_is_one_frame(make_app: AppFactory, profile: str) -> None:
    with served(make_app(BreakingEngine(2))) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "model": f"scripted:{profile}"})
    frames = response.text.strip().split("\n\n")
    assert response.status_code == 200
    assert len(frames) == 3
    assert "The engine died." in frames[-1]
    assert '"error"' in frames[-1]


def test_an_error_in_the_middle_of_an_event_is_a_frame_of_its_own(make_app: AppFactory) -> None:
    with served(make_app(BreakingEngine(1, frame=b'data: {"choi'))) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=QUESTION)
    assert response.text.split("\n\n")[1].startswith('data: {"error":{"message":"The engine died."')


def test_an_event_that_says_it_is_no_error_is_none(make_app: AppFactory) -> None:
    frame = b'data: {"error": null, "choices": []}\n\n'
    with served(make_app(BreakingEngine(1, frame=frame))) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=QUESTION)
    assert (response.status_code, response.content[: len(frame)]) == (200, frame)


@pytest.mark.parametrize("chunks", [(b"data: {}\r\n\r\n",), (b"data: {}\n", b"\n"), (b"data: {}\r", b"\n\r", b"\n")])
def test_comments_come_however_an_event_ends(make_app: AppFactory, chunks: tuple[bytes, ...]) -> None:
    class Ending(ScriptedEngine):
        @asynccontextmanager
        async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
            yield EngineReply(200, {"content-type": "text/event-stream"}, self._chunks())

        async def _chunks(self) -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk
            await anyio.sleep(0.5)
            yield b"data: [DONE]\n\n"

    with served(make_app(Ending(), keep_alive_s=0.1)) as url:
        content = httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "model": "m:off"}).content
    assert content.startswith(b"".join(chunks) + b": keep-alive\n\n")


def test_a_slow_reader_holds_up_no_one_else(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("word " * 20_000)])
    with served(make_app(engine)) as url, httpx.stream("POST", f"{url}/v1/chat/completions", json=QUESTION):
        assert httpx.get(f"{url}/health", timeout=5).status_code == 200


def test_a_silent_stream_gets_comments_that_clients_pass_over(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("one two", delay_s=0.5)])
    with served(make_app(engine, keep_alive_s=0.1)) as url:
        text = httpx.post(f"{url}/v1/chat/completions", json=QUESTION).text
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="k")
        hello: ChatCompletionUserMessageParam = {"role": "user", "content": "Hi"}
        events = list(client.chat.completions.create(model="scripted", messages=[hello], stream=True))
    assert text.count(": keep-alive\n\n") >= 3
    assert text.startswith("data: {"), "nothing comes before the engine's first event"
    assert text.endswith("data: [DONE]\n\n")
    assert "".join(event.choices[0].delta.content or "" for event in events) == "one two"


def test_no_comment_comes_into_the_middle_of_an_event(make_app: AppFactory) -> None:
    class Halving(ScriptedEngine):
        @asynccontextmanager
        async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
            yield EngineReply(200, {"content-type": "text/event-stream"}, self._halves())

        async def _halves(self) -> AsyncIterator[bytes]:
            for half in (b'data: {"choi', b'ces": []}\n\n', b"data: [DONE]\n\n"):
                yield half
                await anyio.sleep(0.3)

    with served(make_app(Halving(), keep_alive_s=0.1)) as url:
        text = httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "model": "m:off"}).text
    assert 'data: {"choices": []}\n\n' in text
    assert ": keep-alive\n\n" in text


@pytest.mark.parametrize("profile", ["default", "base"])
def test_a_slow_reader_holds_its_engine_back(make_app: AppFactory, profile: str) -> None:
    class Endless(ScriptedEngine):
        num_chunks = 0

        @asynccontextmanager
        async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
            if request.method == "GET":
                raise EngineUnavailableError("It lists no models.")
            yield EngineReply(200, {"content-type": "text/event-stream"}, self._chunks())

        async def _chunks(self) -> AsyncIterator[bytes]:
            while True:
                await anyio.lowlevel.checkpoint()
                self.num_chunks += 1
                yield b'data: {"choices": [{"index": 0, "text": "%s"}]}\n\n' % (b"x" * 10_000)

    engine = Endless()
    body = {**QUESTION, "model": f"scripted:{profile}"}
    with served(make_app(engine)) as url, httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        chunks = response.iter_raw()
        next(chunks)
        counts: list[int] = []
        while len(counts) < 3 or counts[-1] != counts[-3]:
            assert len(counts) < 50, "the engine goes on although nobody reads"
            time.sleep(0.1)
            counts.append(engine.num_chunks)
        while engine.num_chunks == counts[-1]:
            next(chunks)


def test_a_client_that_goes_away_while_its_request_is_retrieved_for_never_reaches_the_engine(
    make_app: AppFactory,
) -> None:
    engine = WatchedEngine()
    app = make_app(engine)
    begun = threading.Event()

    def slowly(*_: object) -> None:
        begun.set()
        time.sleep(0.5)
        raise AssertionError("the request goes on")

    app.state.pipeline._aligner.align = slowly

    async def visit(url: str) -> None:
        async with httpx.AsyncClient() as client, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(client.post, json=QUESTION), f"{url}/v1/chat/completions")
            while not begun.is_set():
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            while app.state.admission.num_requests:
                await anyio.sleep(0.01)

    with served(app) as url:
        anyio.run(visit, url)
    assert engine.num_opened == 0


def test_a_client_that_goes_away_while_it_uploads_leaves_nothing_behind(make_app: AppFactory) -> None:
    engine = WatchedEngine()
    app = make_app(engine)
    with served(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            connection.sendall(f"{head}content-length: 5000\r\n\r\n{{".encode())
            while not app.state.admission.num_requests:
                time.sleep(0.01)
        deadline = time.monotonic() + 5
        while app.state.admission.num_requests:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert engine.num_opened == 0
