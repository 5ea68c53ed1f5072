"""Reads an engine's stream of server-sent events, for answers that must be looked into on their way."""

from collections.abc import AsyncIterator

import anyio
import orjson

from server.core.errors import EngineError, EngineUnavailableError
from server.core.types import Body

_DONE = b"[DONE]"
_DRAIN_S = 1.0
# The responses and messages endpoints end with one of these, and send no [DONE].
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed", "message_stop", "error"})


async def parse_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Body]:
    """The JSON of each event as it arrives, up to `[DONE]`. Comments are passed over.

    Lines may end in any way the event-stream format allows, and chunks may be cut anywhere. Raises EngineError where an
    event is not a JSON object, and EngineUnavailableError where the stream breaks off: it ends without `[DONE]`, and
    nothing before said that the answer had finished.
    """
    finished = False
    payloads = _payloads(chunks)
    async for payload in payloads:
        if payload == _DONE:
            await _drain(payloads)
            return
        event = _parse_json(payload)
        finished = finished or _has_finish(event)
        yield event
    if not finished:
        raise EngineUnavailableError("The engine broke off in the middle of its answer.")


async def _drain(payloads: AsyncIterator[bytes]) -> None:
    """Read what is left, which is the end of the body: a connection is used again only once that is read."""
    with anyio.move_on_after(_DRAIN_S):
        async for _ in payloads:
            pass


async def _payloads(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    data: list[bytes] = []
    async for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines without their ends. A carriage return waits for what follows, which may complete it."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        held = b"\r" if rest.endswith(b"\r") else b""
        *lines, rest = rest.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += held
        for line in lines:
            yield line
    if rest:
        yield rest.rstrip(b"\r")


def _has_finish(event: Body) -> bool:
    if event.get("type") in _LAST_EVENTS:
        return True
    choices = event.get("choices")
    return isinstance(choices, list) and any(isinstance(c, dict) and c.get("finish_reason") for c in choices)


def _parse_json(payload: bytes) -> Body:
    try:
        event = orjson.loads(payload)
    except ValueError as error:
        raise EngineError("The engine sent an event that is not JSON.") from error
    if not isinstance(event, dict):
        raise EngineError("The engine sent an event that is not a JSON object.")
    return event
