"""Every byte of a server-sent event that is made here."""

import orjson

from server.core.types import Body

DONE = b"data: [DONE]\n\n"


def encode_event(event: Body) -> bytes:
    """One event with `event` as its JSON data."""
    return b"data: " + orjson.dumps(event) + b"\n\n"
