"""What the port answers while the engine loads: 503, in the form of every other error."""

from starlette.types import Receive, Scope, Send

from server.api.errors import TRACE_KEY, error_response
from server.core.errors import EngineUnavailableError
from server.trace.record import Trace


async def starting(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application."""
    if scope["type"] == "http":
        scope[TRACE_KEY] = Trace()
        error = EngineUnavailableError("The server is starting; its engine still loads.")
        await error_response(error, scope)(scope, receive, send)
