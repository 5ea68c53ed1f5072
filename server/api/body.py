"""Reads a request: its headers, and its JSON object, whose fields are checked by whoever needs them."""

import orjson
from fastapi import Request

from server.core.errors import InvalidRequestError
from server.core.types import Body


def read_headers(request: Request) -> dict[str, str]:
    """Headers by lower-case name; one given several times has all its values, joined by commas."""
    return {name: ", ".join(request.headers.getlist(name)) for name in request.headers}


async def read_body(request: Request) -> Body:
    """The request's JSON object. Raises InvalidRequestError."""
    try:
        body = orjson.loads(await request.body())
    except ValueError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return body
