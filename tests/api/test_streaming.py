"""Streams and disconnects over real sockets."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

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


def test_a_slow_reader_holds_up_no_one_else(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("word " * 20_000)])
    with served(make_app(engine)) as url, httpx.stream("POST", f"{url}/v1/chat/completions", json=QUESTION):
        assert httpx.get(f"{url}/health", timeout=5).status_code == 200
