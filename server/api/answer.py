"""Sends an aligned answer: status and headers once the engine has begun, chunks as they come, and ends with the client.

Everything of one request runs inside this response, so that a client who goes away cancels it wherever it is.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress

import anyio
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.errors import describe_error, error_response, for_path, json_response
from server.api.metrics import metrics_of
from server.api.sse import KEEP_ALIVE, encode_error, encode_events
from server.api.trace import trace_of
from server.core.errors import BodyTooLargeError
from server.core.types import Body
from server.pipeline import Answer
from server.trace.record import Trace

KEEP_ALIVE_KEY = "alignment_keep_alive_s"
"""Where the state of the application holds after how many silent seconds a stream gets a comment."""

_ERROR_FRAMES = (b'data: {"error"', b"event: error\n")
_NO_ERROR = (b'data: {"error":null', b'data: {"error": null')
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
# What OpenAI's API answers for these types of error, which a stream's error frame carries without a status.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "server_error": 500,
}

Answering = Callable[[Trace], AbstractAsyncContextManager[Answer]]


class AnswerResponse(Response):
    """A response whose content is made while it is sent. `answering` runs the pipeline for the request's trace."""

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client disconnects first."""
        trace = trace_of(scope)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_on_disconnect, receive, tasks.cancel_scope)
                sender = _Sender(scope, receive, send, trace)
                tasks.start_soon(sender.keep_alive)
                await sender.send_answer(self._answering)
                tasks.cancel_scope.cancel()
        finally:
            trace.write()
            metrics_of(scope["app"]).observe(trace)


class _Sender:
    """Sends one answer, and knows whether a failure can still become a status."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._trace = trace
        self._started = False
        self._is_between_events = False
        self._end = b""
        self._sent_s = 0.0

    async def send_answer(self, answering: Answering) -> None:
        try:
            async with answering(self._trace) as answer:
                self._trace.mark("engine_answers")
                if answer.body is not None:
                    await self._send_whole(answer.status, answer.body, answer.headers)
                else:
                    await self._send_stream(answer)
            if self._trace.outcome != "error":
                self._trace.outcome = "ok" if answer.status < 400 else "error"
        except Exception as error:  # noqa: BLE001 - whatever fails, the client gets an answer in OpenAI's shape
            self._trace.outcome = "error"
            if self._started:
                _, body = describe_error(error, request_id=self._trace.id)
                cut = b"" if self._end.endswith(_EVENT_ENDS) else b"\n\n"  # an event that broke off ends here
                await self._send_chunk(cut + encode_error(body, self._scope["path"]), more=False)
            else:
                await error_response(error, self._scope)(self._scope, self._receive, self._send)

    async def keep_alive(self) -> None:
        """Send a comment whenever a stream that has begun falls silent between two events."""
        silence_s: float = getattr(self._scope["app"].state, KEEP_ALIVE_KEY, 15.0)
        while True:
            left_s = self._sent_s + silence_s - time.monotonic() if self._is_between_events else silence_s
            if left_s <= 0:
                await self._send_chunk(KEEP_ALIVE)
            else:
                await anyio.sleep(left_s)

    async def _send_whole(self, status: int, body: Body | bytes, headers: Mapping[str, str]) -> None:
        response = (
            Response(body, status, dict(headers)) if isinstance(body, bytes) else json_response(status, body, headers)
        )
        self._started = True
        await response(self._scope, self._receive, self._send)

    async def _send_stream(self, answer: Answer) -> None:
        chunks = _chunks(answer, self._scope["path"])
        first = await anext(chunks, b"")
        self._trace.mark("first_chunk")
        if (error := _early_error(first)) is not None:
            status, body = error
            await self._send_whole(status, for_path(body, self._scope["path"]), {})
            return
        await self._start(answer)
        await self._send_chunk(first)
        async for chunk in chunks:
            await self._send_chunk(chunk)
        await self._send_chunk(b"", more=False)

    async def _start(self, answer: Answer) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", **answer.headers}
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self._started = True
        await self._send({"type": "http.response.start", "status": answer.status, "headers": encoded})

    async def _send_chunk(self, chunk: bytes, *, more: bool = True) -> None:
        if chunk.startswith(_ERROR_FRAMES) and not chunk.startswith(_NO_ERROR):
            self._trace.outcome = "error"
        self._is_between_events = False
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        self._end = (self._end + chunk[-4:])[-4:]  # the end of an event may come in pieces
        self._is_between_events, self._sent_s = more and self._end.endswith(_EVENT_ENDS), time.monotonic()


def _chunks(answer: Answer, path: str) -> AsyncIterator[bytes]:
    if answer.chunks is not None:
        return answer.chunks
    assert answer.events is not None, "an answer has a body, chunks or events"
    return encode_events(answer.events, path)


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    with suppress(BodyTooLargeError):  # of a body that nobody reads
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


def _early_error(first: bytes) -> tuple[int, Body] | None:
    """Status and body of a stream that begins with an error frame; nothing was sent yet, so it can have a status."""
    if not first.startswith(_ERROR_FRAMES):
        return None
    try:
        found = orjson.loads(first.split(b"data: ", 1)[1].split(b"\n", 1)[0])["error"]
    except (ValueError, LookupError, TypeError):
        return None
    if not found:  # servers that write all their fields say so of every event
        return None
    error = found if isinstance(found, dict) else {"message": str(found)}
    code, kind = error.get("code"), error.get("type")
    status = code if isinstance(code, int) and 400 <= code < 600 else _STATUS_OF_TYPE.get(str(kind), 502)
    return status, {"error": {"type": "engine_error", "param": None, "code": None, **error}}
