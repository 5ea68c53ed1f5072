"""Reads a request's body. Its fields are checked by whoever needs them."""

import orjson
from fastapi import Request

from server.core.errors import InvalidRequestError, MediaTypeError
from server.core.types import Body


async def read_json(request: Request) -> bytes:
    """The body, which must be declared to be JSON. Raises MediaTypeError."""
    declared = request.headers.get("content-type", "")
    media_type = declared.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MediaTypeError(declared)
    return await request.body()


async def read_object(request: Request) -> Body:
    """The JSON object in the body. Raises MediaTypeError and InvalidRequestError."""
    try:
        body = orjson.loads(await read_json(request))
    except ValueError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return body
