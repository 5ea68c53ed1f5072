"""Lets requests in: by key, by how many are under way, and by size. Before all else that a request goes through."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.caller import PROFILES_KEY
from server.api.trace import trace_of
from server.core.errors import BodyTooLargeError, BusyError, DrainingError, UnauthorizedError

# Asked by those who watch the server, without a key, and also while it is busy.
OPEN_PATHS = frozenset({"/health", "/ready", "/ping", "/metrics", "/version"})


@dataclass(frozen=True)
class Key:
    """A client's key, with the profiles it is bound to, if any."""

    name: str
    secret: str
    profiles: tuple[str, ...] | None = None


class Admission:
    """The limits, and what is under way. Set `is_draining` to take no new requests."""

    def __init__(self, *, keys: Sequence[Key] = (), max_requests: int = 1024, max_body_bytes: int = 2**26) -> None:
        self._keys = keys
        self._max_requests = max_requests
        self.max_body_bytes = max_body_bytes
        self.num_requests = 0
        self.is_draining = False

    @property
    def has_keys(self) -> bool:
        """Whether clients need one."""
        return bool(self._keys)

    def admit(self, headers: Headers) -> Key | None:
        """The key of a request that may come in. Raises UnauthorizedError, DrainingError or BusyError."""
        key = self._find_key(headers) if self._keys else None
        if self.is_draining:
            raise DrainingError("The server is stopping; ask another, or try again later.")
        if self.num_requests >= self._max_requests:
            raise BusyError(f"The server answers {self._max_requests} requests at once; try again later.")
        return key

    def _find_key(self, headers: Headers) -> Key:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not given:
            raise UnauthorizedError("A key is needed: send the header Authorization: Bearer KEY.")
        # All are compared, in constant time each, so that how long it takes tells nothing.
        found = [key for key in self._keys if hmac.compare_digest(key.secret.encode(), given.encode())]
        if not found:
            raise UnauthorizedError("This server does not know the key that was sent.")
        return found[0]


class AdmissionMiddleware:
    """Plain ASGI, so that streams pass through it chunk by chunk."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its key's profiles in its scope. Raises the errors of Admission."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        receive = _limited(receive, headers, self._admission.max_body_bytes)
        if self._admission.has_keys:
            scope[PROFILES_KEY] = None  # whoever sends a key here, needed or not, means this server
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        key = self._admission.admit(headers)
        if key is not None:
            trace_of(scope).key = key.name
            scope[PROFILES_KEY] = key.profiles
        self._admission.num_requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.num_requests -= 1


def _limited(receive: Receive, headers: Headers, limit_bytes: int) -> Receive:
    """`receive` that raises BodyTooLargeError once more than `limit_bytes` have come, or were announced."""
    announced = headers.get("content-length", "")
    too_large = announced.isdecimal() and int(announced[:20]) > limit_bytes
    num_bytes = 0

    async def receive_limited() -> Message:
        nonlocal num_bytes
        if too_large:
            raise BodyTooLargeError(limit_bytes)
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        return message

    return receive_limited
