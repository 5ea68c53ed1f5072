"""Endpoints of the engine that reach it as they are: no alignment applies to them."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.answer import AnswerResponse
from server.api.body import read_headers
from server.engine.base import EngineRequest
from server.pipeline import Pipeline

_PATHS = (
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/v1/completions"),
)


def passthrough_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(tags=["engine"])

    async def pass_through(request: Request) -> Response:
        """The engine's own endpoint, unaligned."""
        passed = EngineRequest(request.url.path, await request.body(), request.method, read_headers(request))
        return AnswerResponse(lambda _trace: pipeline.pass_through(passed))

    for method, path in _PATHS:
        router.add_api_route(path, pass_through, methods=[method])
    return router
