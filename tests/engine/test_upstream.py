import gzip
from collections.abc import Callable

import anyio
import anyio.abc
import httpx
import pytest
from anyio.abc import SocketStream
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.core.errors import ConfigurationError, EngineError, EngineTimeoutError, EngineUnavailableError
from server.engine.base import EngineRequest
from server.engine.upstream import UpstreamEngine
from tests.servers import served

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
    request = EngineRequest("/v1/messages", headers={"X-Api-Key": "client"})
    assert (await sent(request)).headers["x-api-key"] == "client"
    assert "x-api-key" not in (await sent(request, api_key="ours")).headers


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
        with pytest.raises(EngineUnavailableError):
            async with engine.open(EngineRequest("/v1/models", method="GET")):
                pass


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", b""])
async def test_an_upstream_that_does_not_speak_http_is_unavailable(raw: bytes) -> None:
    async def speak(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(raw or b" ")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, speak)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        engine = UpstreamEngine(f"http://127.0.0.1:{port}/v1")
        async with engine.running():
            with pytest.raises(EngineUnavailableError):
                async with engine.open(EngineRequest("/v1/chat/completions")):
                    pass
        tasks.cancel_scope.cancel()


async def test_a_cookie_set_for_one_client_is_not_sent_for_another() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            seen.append(Headers(scope=scope).get("cookie"))
            response = Response("{}", headers={"set-cookie": "session=secret"})
            await response(scope, receive, send)

    with served(app) as url:
        engine = UpstreamEngine(f"{url}/v1")
        async with engine.running():
            for _ in range(2):
                async with engine.open(EngineRequest("/v1/chat/completions")) as reply:
                    await reply.read()
    assert seen == [None, None]


async def test_header_values_pass_byte_for_byte() -> None:
    outgoing = await sent(EngineRequest("/v1/chat/completions", headers={"x-user": "Jos\u00e9"}))
    assert (b"x-user", b"Jos\xe9") in [(name.lower(), value) for name, value in outgoing.headers.raw]


async def test_an_answer_that_is_compressed_all_the_same_is_decoded() -> None:
    content = gzip.compress(b'{"data": [{"id": "m"}]}')
    given = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(content))
    engine = engine_over(lambda _: given)
    async with engine.running(), engine.open(EngineRequest("/v1/models", method="GET")) as reply:
        assert await reply.read() == b'{"data": [{"id": "m"}]}'


@pytest.mark.parametrize("url", ["upstream/v1", "ftp://upstream", "http://", "http://host:port", "http://u:pw@host/v1"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="upstream:"):
        UpstreamEngine(url)
