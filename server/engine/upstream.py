"""Any OpenAI-compatible server as the engine, over HTTP.

httpx's API over aiohttp's connections: httpx's own transport is the slowest part of a pass-through by far.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import anyio
import httpx
from httpx_aiohttp import AiohttpTransport

from server.core.errors import ConfigurationError, EngineTimeoutError, EngineUnavailableError
from server.engine.base import EngineReply, EngineRequest

_logger = logging.getLogger(__name__)
_KEEPALIVE_S = 30.0
# The transport maps most of aiohttp's exceptions to httpx's, not all.
_FAILURES = (httpx.RequestError, aiohttp.ClientError, OSError)

_OWN_HEADERS = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})


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
        self._limits = httpx.Limits(max_connections=max_connections)
        self._timeout_s = timeout_s
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the connection pool. The upstream itself may come up later."""
        transport = self._transport or AiohttpTransport(limits=self._limits, client=self._open_session)
        timeout = httpx.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
        # All clients share the connections, so a cookie set for one must not be sent for another.
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        async with httpx.AsyncClient(transport=transport, timeout=timeout, cookies=cookies) as self._client:
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
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
            yield EngineReply(response.status_code, headers, _chunks(response))
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def check(self) -> None:
        """An upstream that is down may come back without this process being replaced, so it is not asked."""
        if self._client is None:
            raise EngineUnavailableError("The upstream client is not running.")

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        try:
            return await client.send(request, stream=True)
        except httpx.ReadTimeout as error:
            raise EngineTimeoutError(f"The upstream did not answer within {self._timeout_s:g} s.") from error
        except _FAILURES as error:
            _logger.warning("upstream %s: %s: %s", self._base_url, type(error).__name__, error)
            raise EngineUnavailableError("The upstream cannot be reached.") from error

    def _url(self, path: str) -> str:
        return (
            self._base_url + path.removeprefix("/v1")
            if path.startswith("/v1/")
            else self._base_url.removesuffix("/v1") + path
        )

    def _open_session(self) -> aiohttp.ClientSession:
        limit, context = self._limits.max_connections or 0, httpx.create_ssl_context()
        connector = aiohttp.TCPConnector(limit=limit, keepalive_timeout=_KEEPALIVE_S, ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    def _headers(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        kept = {name.lower(): value for name, value in headers.items() if name.lower() not in _OWN_HEADERS}
        # Compressed bytes could not be passed on as they arrive, and aligned answers must be read here.
        kept = {"content-type": "application/json", **kept, "accept-encoding": "identity"}
        if self._api_key is not None:
            kept.pop("x-api-key", None)  # the client's own, in the header of Anthropic's clients
            kept["authorization"] = f"Bearer {self._api_key}"
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.items()]


def _parse_base_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"upstream: {base_url!r} is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"upstream: {base_url!r} needs the form https://host/v1.")
    if url.userinfo:
        raise ConfigurationError("upstream: the URL must not hold a password; give it as upstream_api_key.")
    return base_url.rstrip("/")


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        # Asked not to compress, most do not; for the others httpx decodes, since the header does not go on.
        compressed = "content-encoding" in response.headers
        async for chunk in response.aiter_bytes() if compressed else response.aiter_raw():
            yield chunk
    except httpx.ReadTimeout as error:
        raise EngineTimeoutError("The upstream fell silent in the middle of its answer.") from error
    except _FAILURES as error:
        raise EngineUnavailableError("The upstream broke off in the middle of its answer.") from error
