"""Reads an engine's stream of server-sent events, for answers that must be looked into on their way."""

from collections.abc import AsyncIterator

import orjson

from server.core.errors import EngineError
from server.core.types import Body

_DONE = b"[DONE]"


async def parse_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Body]:
    """The JSON of each event as it arrives, up to `[DONE]` or the end. Comments are passed over.

    Lines may end in any way the event-stream format allows, and chunks may be cut anywhere. Raises EngineError where an
    event is not a JSON object.
    """
    data: list[bytes] = []
    async for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            payload, data = b"\n".join(data), []
            if payload == _DONE:
                return
            yield _parse_json(payload)
    if data and b"\n".join(data) != _DONE:
        yield _parse_json(b"\n".join(data))


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


def _parse_json(payload: bytes) -> Body:
    try:
        event = orjson.loads(payload)
    except ValueError as error:
        raise EngineError("The engine sent an event that is not JSON.") from error
    if not isinstance(event, dict):
        raise EngineError("The engine sent an event that is not a JSON object.")
    return event
