"""Reads the JSON object of a request. Its fields are checked by whoever needs them; the rest passes through."""

import orjson
from fastapi import Request

from server.core.errors import InvalidRequestError
from server.core.types import Body


async def read_body(request: Request) -> Body:
    """The request's JSON object. Raises InvalidRequestError."""
    try:
        body = orjson.loads(await request.body())
    except ValueError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return body
