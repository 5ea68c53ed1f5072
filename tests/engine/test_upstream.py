import gzip
from collections.abc import Callable

import httpx
import pytest

from server.core.errors import ConfigurationError, EngineError, EngineTimeoutError, EngineUnavailableError
from server.engine.base import EngineRequest
from server.engine.upstream import UpstreamEngine

pytestmark = pytest.mark.anyio

Handler = Callable[[httpx.Request], httpx.Response]


def engine_over(handler: Handler, **settings: str) -> UpstreamEngine:
    return UpstreamEngine("http://upstream/api/v1/", transport=httpx.MockTransport(handler), **settings)  # type: ignore[arg-type]


def answer(status: int, content: bytes) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(content))


async def sent(request: EngineRequest, **settings: str) -> httpx.Request:
    seen: list[httpx.Request] = []

    def note(outgoing: httpx.Request) -> httpx.Response:
        seen.append(outgoing)
        return answer(200, b"{}")

    engine = engine_over(note, **settings)
    async with engine.running(), engine.open(request) as reply:
        await reply.read()
    return seen[0]


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/v1/chat/completions", "http://upstream/api/v1/chat/completions"),
        ("/v1/models", "http://upstream/api/v1/models"),
        ("/tokenize", "http://upstream/api/tokenize"),
    ],
)
async def test_paths_join_the_base_url(path: str, url: str) -> None:
    assert str((await sent(EngineRequest(path))).url) == url


async def test_our_key_replaces_the_clients() -> None:
    request = EngineRequest("/v1/chat/completions", headers={"Authorization": "Bearer client"})
    assert (await sent(request)).headers["authorization"] == "Bearer client"
    assert (await sent(request, api_key="ours")).headers["authorization"] == "Bearer ours"


async def test_headers_of_the_clients_connection_stay_behind() -> None:
    headers = {"host": "here", "content-length": "999", "accept-encoding": "gzip", "x-request-id": "7"}
    outgoing = await sent(EngineRequest("/v1/chat/completions", b"{}", headers=headers))
    assert outgoing.headers["host"] == "upstream"
    assert outgoing.headers["content-length"] == "2"
    assert outgoing.headers["accept-encoding"] == "identity"
    assert outgoing.headers["x-request-id"] == "7"


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (httpx.ConnectError("refused"), EngineUnavailableError),
        (httpx.ReadError("reset"), EngineUnavailableError),
        (httpx.ReadTimeout("slow"), EngineTimeoutError),
    ],
)
async def test_failures_of_the_network_have_names(failure: Exception, expected: type[EngineError]) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise failure

    engine = engine_over(fail)
    async with engine.running():
        with pytest.raises(expected):
            async with engine.open(EngineRequest("/v1/chat/completions")):
                pass


async def test_a_closed_port_is_unavailable() -> None:
    engine = UpstreamEngine("http://127.0.0.1:1/v1")
    async with engine.running():
        with pytest.raises(EngineUnavailableError, match="127.0.0.1:1"):
            await engine.list_models()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(500, b""), EngineUnavailableError),
        (answer(200, b"<html>"), EngineError),
        (answer(200, b'{"data": [{}]}'), EngineError),
    ],
)
async def test_a_list_of_models_that_cannot_be_read(given: httpx.Response, expected: type[EngineError]) -> None:
    engine = engine_over(lambda _: given)
    async with engine.running():
        with pytest.raises(expected):
            await engine.list_models()


async def test_an_answer_that_is_compressed_all_the_same_is_decoded() -> None:
    content = gzip.compress(b'{"data": [{"id": "m"}]}')
    given = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(content))
    engine = engine_over(lambda _: given)
    async with engine.running():
        assert await engine.list_models() == ["m"]


@pytest.mark.parametrize("url", ["upstream/v1", "ftp://upstream", "http://", "http://host:port"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="upstream:"):
        UpstreamEngine(url)
