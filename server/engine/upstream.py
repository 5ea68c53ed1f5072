"""Any OpenAI-compatible server as the engine, over HTTP.

httpx's API over aiohttp's connections: httpx's own transport is the slowest part of a pass-through by far.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from server.core.errors import ConfigurationError, EngineError, EngineTimeoutError, EngineUnavailableError
from server.engine.base import EngineReply, EngineRequest

_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "connection", "accept-encoding", "transfer-encoding"}
)


class UpstreamEngine:
    """A server at `base_url` (`https://host/v1`), reached with `api_key`, or if that is None with the client's.

    `timeout_s` bounds connecting and each silence between bytes, not a whole answer. `transport` replaces the network.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        max_connections: int = 256,
        timeout_s: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = _parse_base_url(base_url)
        self._api_key = api_key
        self._limits = httpx.Limits(max_connections=max_connections, keepalive_expiry=30.0)
        self._timeout_s = timeout_s
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the connection pool. The upstream itself may come up later."""
        transport = self._transport or AiohttpTransport(limits=self._limits)
        timeout = httpx.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
        async with httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False) as self._client:
            yield
        self._client = None

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        """Send over a kept-alive connection; leaving early closes it, which aborts the request upstream."""
        if self._client is None:
            raise EngineUnavailableError("The upstream client is not running.")
        outgoing = self._client.build_request(
            request.method,
            self._url(request.path),
            content=request.content or None,
            headers=self._headers(request.headers),
        )
        response = await self._send(self._client, outgoing)
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            yield EngineReply(response.status_code, headers, _chunks(response))
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def list_models(self) -> Sequence[str]:
        """What the upstream lists now."""
        async with self.open(EngineRequest("/v1/models", method="GET")) as reply:
            content = await reply.read()
        if reply.status != httpx.codes.OK:
            raise EngineUnavailableError(f"The upstream answered {reply.status} to its list of models.")
        try:
            return [model["id"] for model in orjson.loads(content)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError("The upstream's list of models is not in OpenAI's form.") from error

    async def check(self) -> None:
        """An upstream that is down may come back without this process being replaced, so it is not asked."""
        if self._client is None:
            raise EngineUnavailableError("The upstream client is not running.")

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        try:
            return await client.send(request, stream=True)
        except httpx.ConnectTimeout as error:
            raise EngineUnavailableError(f"The upstream {self._base_url} closed or refused the connection.") from error
        except httpx.TimeoutException as error:
            raise EngineTimeoutError(f"The upstream did not answer within {self._timeout_s:g} s.") from error
        except (httpx.TransportError, OSError) as error:
            raise EngineUnavailableError(f"The upstream {self._base_url} cannot be reached.") from error

    def _url(self, path: str) -> str:
        return (
            self._base_url + path.removeprefix("/v1")
            if path.startswith("/v1/")
            else self._base_url.removesuffix("/v1") + path
        )

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        kept = {name.lower(): value for name, value in headers.items() if name.lower() not in _OWN_HEADERS}
        # Compressed bytes could not be passed on as they arrive, and aligned answers must be read here.
        kept |= {"content-type": "application/json", "accept-encoding": "identity"}
        if self._api_key is not None:
            kept["authorization"] = f"Bearer {self._api_key}"
        return kept


def _parse_base_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"upstream: {base_url!r} is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"upstream: {base_url!r} needs the form https://host/v1.")
    return base_url.rstrip("/")


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        # Asked not to compress, most do not; for the others httpx decodes, since the header does not go on.
        compressed = "content-encoding" in response.headers
        async for chunk in response.aiter_bytes() if compressed else response.aiter_raw():
            yield chunk
    except httpx.TimeoutException as error:
        raise EngineTimeoutError("The upstream fell silent in the middle of its answer.") from error
    except (httpx.TransportError, OSError) as error:
        raise EngineUnavailableError("The upstream broke off in the middle of its answer.") from error
