"""Reads what engines answer: which headers go on, errors in other forms than OpenAI's, prompts found too long."""

import re
from collections.abc import AsyncIterator

import orjson

from server.core.errors import EngineError
from server.core.types import Body
from server.engine.base import EngineReply

_PASSED_HEADERS = (
    "content-type",
    "content-disposition",
    "cache-control",
    "retry-after",
    "x-request-id",
    "x-ratelimit-",
    "openai-",
    "endpoint-load-metrics",
)
# OpenAI's code, and the words of vLLM and other servers.
_TOO_LONG = re.compile(
    rb"context_length_exceeded|maximum (context|model) length|context (length|window|size)", re.IGNORECASE
)


def passed_headers(reply: EngineReply) -> dict[str, str]:
    """The headers of an answer that reach the client."""
    return {name: value for name, value in reply.headers.items() if name.startswith(_PASSED_HEADERS)}


def refuse_redirect(reply: EngineReply) -> None:
    """Raise EngineError for a redirect, which clients could not follow."""
    if 300 <= reply.status < 400:
        raise EngineError(f"The engine redirects (status {reply.status}); configure the URL it redirects to.")


def says_too_long(status: int, content: bytes) -> bool:
    """Whether an error says that the prompt does not fit the model's window."""
    return status in (400, 413, 422) and _TOO_LONG.search(content) is not None


def openai_error(status: int, content: bytes) -> bytes | Body:
    """An engine's error as it is where it has OpenAI's form, else put into that form."""
    shown = content[:500].decode("utf-8", "replace")
    try:
        body = orjson.loads(content)
        if isinstance(body["error"], dict):
            return content
    except (ValueError, TypeError):
        pass
    except KeyError:
        shown = str(body.get("detail", shown))  # FastAPI's and Starlette's own form
    kind = "invalid_request_error" if status < 500 else "engine_error"
    return {"error": {"message": f"The engine answered {status}: {shown}", "type": kind, "param": None, "code": None}}


def parse_answer(content: bytes) -> Body:
    """A whole answer. Raises EngineError where it is not a JSON object."""
    try:
        body = orjson.loads(content)
    except ValueError as error:
        raise EngineError("The engine's answer is not JSON.") from error
    if not isinstance(body, dict):
        raise EngineError("The engine's answer is not a JSON object.")
    return body


async def once(content: bytes) -> AsyncIterator[bytes]:
    """One chunk, for a reply whose content was read already."""
    yield content
