"""What every engine does. The real vLLM runs in tests/live; here its bridge runs another application."""

from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import orjson
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from server.core.errors import EngineUnavailableError
from server.engine.base import Engine, EngineRequest
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from server.engine.upstream import UpstreamEngine
from server.engine.vllm import HostedEngine, VllmEngine
from tests.servers import served

pytestmark = pytest.mark.anyio

WORDS = "One two three."


class Backend:
    """A small OpenAI server that notes what becomes of its streams."""

    def __init__(self) -> None:
        self.scripted = ScriptedEngine([ScriptedAnswer(WORDS, delay_s=0.02)], model="m")
        self.ended: list[str] = []
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.chat)
        self.app.get("/v1/models")(self.models)
        self.app.get("/health")(self.health)
        self.health_status = 200

    async def health(self) -> Response:
        return Response(status_code=self.health_status)

    async def models(self) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "m"}]})

    async def chat(self, request: Request) -> Response:
        content = await request.body()
        body = orjson.loads(content)
        if body["model"] != "m":
            return JSONResponse({"error": {"message": "no such model"}}, 404)
        if body.get("stream"):
            return StreamingResponse(self.stream(content), media_type="text/event-stream")
        async with self.scripted.open(EngineRequest("/v1/chat/completions", content)) as reply:
            return Response(await reply.read(), media_type="application/json")

    async def stream(self, content: bytes) -> AsyncIterator[bytes]:
        outcome = "cancelled"
        try:
            async with self.scripted.open(EngineRequest("/v1/chat/completions", content)) as reply:
                async for chunk in reply.chunks:
                    yield chunk
            outcome = "complete"
        finally:
            self.ended.append(outcome)


class BridgedEngine(VllmEngine):
    """vLLM's bridge with another application behind it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._bridging(self._backend.app):
            yield


Built = tuple[Engine, Backend]


@pytest.fixture(params=["upstream", "bridged", "hosted"])
def built(request: pytest.FixtureRequest) -> Iterator[Built]:
    backend = Backend()
    if request.param == "bridged":
        yield BridgedEngine(backend), backend
    elif request.param == "hosted":
        backend.app.state.args = Namespace(model="m", tokenizer=None)
        yield HostedEngine(backend.app), backend
    else:
        with served(backend.app) as url:
            yield UpstreamEngine(f"{url}/v1"), backend


def chat(**fields: object) -> EngineRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return EngineRequest("/v1/chat/completions", orjson.dumps(body))


async def test_a_whole_answer_comes_back_as_it_is(built: Built) -> None:
    engine, _ = built
    async with engine.running(), engine.open(chat()) as reply:
        assert (reply.status, reply.is_stream) == (200, False)
        assert orjson.loads(await reply.read())["choices"][0]["message"]["content"] == WORDS


async def test_a_stream_comes_while_it_is_made(built: Built) -> None:
    engine, backend = built
    async with engine.running(), engine.open(chat(stream=True)) as reply:
        assert reply.is_stream
        first = await anext(reply.chunks)
        assert b"data: " in first
        assert backend.ended == []
        rest = b"".join([chunk async for chunk in reply.chunks])
    assert rest.endswith(b"data: [DONE]\n\n")
    assert backend.ended == ["complete"]


async def test_leaving_early_ends_the_work_behind(built: Built) -> None:
    engine, backend = built
    async with engine.running():
        async with engine.open(chat(stream=True)) as reply:
            await anext(reply.chunks)
        with anyio.fail_after(5):
            while not backend.ended:
                await anyio.sleep(0.01)
    assert backend.ended == ["cancelled"]


async def test_cancelling_ends_the_work_behind(built: Built) -> None:
    engine, backend = built
    async with engine.running():
        with anyio.CancelScope() as scope:
            async with engine.open(chat(stream=True)) as reply:
                async for _ in reply.chunks:
                    scope.cancel()
        with anyio.fail_after(5):
            while not backend.ended:
                await anyio.sleep(0.01)
    assert backend.ended == ["cancelled"]


async def test_an_engines_error_is_a_reply(built: Built) -> None:
    engine, _ = built
    async with engine.running(), engine.open(chat(model="other")) as reply:
        assert (reply.status, await reply.read()) == (404, b'{"error":{"message":"no such model"}}')


async def test_many_requests_run_at_once(built: Built) -> None:
    engine, backend = built

    async def ask() -> None:
        async with engine.open(chat(stream=True)) as reply:
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")

    async with engine.running():
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(ask)
    assert backend.ended == ["complete"] * 30


async def test_a_running_engine_is_well(built: Built) -> None:
    engine, _ = built
    async with engine.running():
        await engine.check()


async def test_vllm_is_unwell_once_it_says_so() -> None:
    backend = Backend()
    engine = BridgedEngine(backend)
    async with engine.running():
        backend.health_status = 503
        with pytest.raises(EngineUnavailableError, match="has died"):
            await engine.check()


async def test_an_engine_that_is_not_running_is_unavailable(built: Built) -> None:
    engine, _ = built
    with pytest.raises(EngineUnavailableError):
        async with engine.open(chat()):
            pass


@pytest.mark.parametrize("at", ["a chunk not taken yet", "a chunk that comes as the reader leaves"])
async def test_a_stream_left_at_a_chunk_is_cancelled_where_it_waits_for_the_next(at: str) -> None:
    """Left suspended at the chunk instead, vLLM's stream would go on running until garbage is collected."""
    ended: list[str] = []
    leaving = anyio.Event()

    async def stream() -> AsyncIterator[bytes]:
        yield b"first"
        try:
            if at == "a chunk that comes as the reader leaves":
                await leaving.wait()
            yield b"second"
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise
        except GeneratorExit:
            ended.append("abandoned")
            raise

    backend = Backend()
    backend.app.post("/stream")(lambda: StreamingResponse(stream()))
    engine = BridgedEngine(backend)
    async with engine.running():
        async with engine.open(EngineRequest("/stream")) as reply:
            assert await anext(reply.chunks) == b"first"
            await anyio.wait_all_tasks_blocked()
            leaving.set()
        assert ended == ["cancelled"]
