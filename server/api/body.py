"""Reads the bodies of icalign's own endpoints. Those of aligned ones are read by the pipeline."""

import orjson
from fastapi import Request

from server.core.errors import InvalidRequestError
from server.core.types import Body


async def read_object(request: Request) -> Body:
    """The JSON object in the body. Raises InvalidRequestError."""
    try:
        body = orjson.loads(await request.body())
    except ValueError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return body
