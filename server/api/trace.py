"""Gives every request a trace and every response its headers, and answers failures that nothing further in has."""

from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import TRACE_KEY, error_response
from server.trace.record import Trace


class TraceMiddleware:
    """The outermost layer; plain ASGI, so that streams pass through it chunk by chunk."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put a trace into the request's scope and its headers onto the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = scope[TRACE_KEY] = Trace()

        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                added = [(name.encode(), value.encode()) for name, value in trace.headers().items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if started:
                raise
            await error_response(error, scope)(scope, receive, send_with_headers)


def trace_of(request: Request | MutableMapping[str, Any]) -> Trace:
    """The trace of a request, or of its ASGI scope."""
    scope = request.scope if isinstance(request, Request) else request
    trace: Trace = scope[TRACE_KEY]
    return trace
