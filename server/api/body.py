"""Reads the bodies of icalign's own endpoints. Those of aligned ones are read by the pipeline."""

import orjson
from fastapi import Request

from server.core.errors import InvalidRequestError
from server.core.types import Body
from server.pipeline import check_media_type


async def read_object(request: Request) -> Body:
    """The JSON object in the body. Raises MediaTypeError and InvalidRequestError."""
    content = await request.body()
    check_media_type(request.headers.get("content-type", ""))
    try:
        body = orjson.loads(content)
    except ValueError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return body
