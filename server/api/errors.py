"""The one table from error class to HTTP status, type and code, and every error body, in OpenAI's shape."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from server.core import errors
from server.core.types import Body

_logger = logging.getLogger(__name__)

TRACE_KEY = "alignment_trace"
"""Where the ASGI scope of a request holds its trace."""


class _Row(NamedTuple):
    status: int
    type: str
    code: str


ERRORS: Mapping[type[errors.IcalignError], _Row] = {
    errors.InvalidRequestError: _Row(400, "invalid_request_error", "invalid_value"),
    errors.OverrideError: _Row(400, "invalid_request_error", "override_not_allowed"),
    errors.UnauthorizedError: _Row(401, "authentication_error", "invalid_api_key"),
    errors.ForbiddenError: _Row(403, "permission_error", "profile_not_allowed"),
    errors.UnknownModelError: _Row(404, "invalid_request_error", "model_not_found"),
    errors.UnknownProfileError: _Row(404, "invalid_request_error", "profile_not_found"),
    errors.BodyTooLargeError: _Row(413, "invalid_request_error", "body_too_large"),
    errors.MediaTypeError: _Row(415, "invalid_request_error", "unsupported_media_type"),
    errors.BusyError: _Row(429, "rate_limit_error", "too_many_requests"),
    errors.NotOfferedError: _Row(501, "not_implemented_error", "not_offered"),
    errors.DrainingError: _Row(503, "server_error", "draining"),
    errors.EngineUnavailableError: _Row(503, "server_error", "engine_unavailable"),
    errors.EngineStartError: _Row(503, "server_error", "engine_unavailable"),
    errors.EngineTimeoutError: _Row(504, "server_error", "engine_timeout"),
    errors.EngineError: _Row(502, "server_error", "engine_error"),
    errors.PromptFilesError: _Row(500, "server_error", "prompt_files"),
    errors.ConfigurationError: _Row(500, "server_error", "configuration"),
}
_UNEXPECTED = _Row(500, "server_error", "internal_error")


_HEADERS = {
    401: {"www-authenticate": "Bearer"},
    429: {"retry-after": "1"},
    503: {"retry-after": "5"},
}


def describe_error(error: Exception, *, request_id: str) -> tuple[int, Body]:
    """Status and body for `error`. Messages of server faults are withheld and logged with `request_id`."""
    row = next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), _UNEXPECTED)
    if row.status == 500:
        _logger.error("request %s failed", request_id, exc_info=error)
        return 500, error_body(f"The server failed; its log tells more under {request_id}.", row.type, code=row.code)
    return row.status, error_body(str(error), row.type, param=getattr(error, "param", None), code=row.code)


def error_response(error: Exception, scope: Scope) -> Response:
    """The answer to a request that failed with `error` before anything was sent."""
    status, body = describe_error(error, request_id=scope[TRACE_KEY].id)
    return json_response(status, for_path(body, scope["path"]), _HEADERS.get(status))


def for_path(body: Body, path: str) -> Body:
    """An error as the endpoint's clients look for it: Anthropic's, beside `error`, at the type of the whole."""
    return {"type": "error", **body} if path.startswith("/v1/messages") else body


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> Body:
    """OpenAI's error shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_response(status: int, body: Body, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(body), status, {"content-type": "application/json", **(headers or {})})


def add_error_handlers(app: FastAPI) -> None:
    """Answer every failure outside the aligned endpoints in OpenAI's shape too, the framework's own included."""
    app.add_exception_handler(errors.IcalignError, _handle)
    app.add_exception_handler(HTTPException, _handle_http)
    app.add_exception_handler(RequestValidationError, _handle_validation)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)


async def _handle(request: Request, error: Exception) -> Response:
    return error_response(error, request.scope)


async def _handle_disconnect(_: Request, __: Exception) -> Response:
    """The client left while it sent its request; nobody reads this."""
    return Response(status_code=400)


async def _handle_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, errors.IcalignError):  # raised while the framework read the body
        return error_response(error.__cause__, request.scope)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    message = f"{request.method} {request.url.path}: {error.detail}"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    body = for_path(error_body(message, kind, code=code), request.url.path)
    return json_response(error.status_code, body, error.headers)


async def _handle_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    is_json = fault["type"] != "json_invalid"
    param = (".".join(str(part) for part in fault["loc"] if part != "body") or None) if is_json else None
    message = f"{param}: {fault['msg']}." if param else f"{fault['msg']}."
    return json_response(400, error_body(message, "invalid_request_error", param=param, code="invalid_value"))
