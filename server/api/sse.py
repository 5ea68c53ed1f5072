"""Every byte of a server-sent event that is made here."""

from collections.abc import AsyncIterator

import orjson

from server.api.errors import for_path
from server.core.types import Body

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients pass over."""

# Their events have a type, which is the event's name too, and no [DONE] after them.
_NAMED = ("/v1/responses", "/v1/messages")


async def encode_events(events: AsyncIterator[Body], path: str) -> AsyncIterator[bytes]:
    """The events of a stream from the endpoint `path`, to its end."""
    is_named = path.startswith(_NAMED)
    async for event in events:
        if is_named and event.get("error"):
            yield encode_error(event, path)
        else:
            yield _encode(event, name=str(event["type"]) if is_named and "type" in event else None)
    if not is_named:
        yield DONE


def encode_error(body: Body, path: str) -> bytes:
    """An error as the last event of a stream from the endpoint `path`."""
    return _encode(for_path(body, path), name="error" if path.startswith(_NAMED) else None)


def _encode(event: Body, *, name: str | None) -> bytes:
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + orjson.dumps(event) + b"\n\n"
