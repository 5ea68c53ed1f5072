"""Endpoints of the engine that reach it as they are.

What generates nothing has nothing to align. What generates in ways that cannot be aligned is for requests whose profile
does not align; for others it is not offered.
"""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.answer import AnswerResponse
from server.api.caller import read_caller
from server.engine.base import EngineRequest
from server.pipeline import Pipeline

_GET = ("/version", "/ping", "/load", "/tokenizer_info", "/v1/responses/{response_id}")
_POST = (
    *("/tokenize", "/detokenize", "/v1/messages/count_tokens"),
    *("/v1/embeddings", "/v2/embed", "/pooling", "/classify", "/score", "/v1/score"),
    *("/rerank", "/v1/rerank", "/v2/rerank", "/v1/moderations"),
    *("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"),
    *("/v1/responses/{response_id}/cancel", "/ping"),
)
GENERATING_PATHS = (
    *("/invocations", "/inference/v1/generate", "/generative_scoring", "/v1/systemone"),
    *("/v1/chat/completions/render", "/v1/completions/render", "/v1/messages/render", "/v1/responses/render"),
    *("/v1/chat/completions/derender", "/v1/completions/derender"),
)


def passthrough_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(tags=["engine"])

    async def pass_on(request: Request) -> Response:
        """The engine's own endpoint, unaligned."""
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        caller, passed = read_caller(request), EngineRequest(path, await request.body(), request.method)
        return AnswerResponse(lambda _trace: pipeline.pass_through(passed, caller))

    async def pass_unaligned(request: Request) -> Response:
        """The engine's own endpoint, for requests whose profile does not align."""
        caller, passed = read_caller(request), EngineRequest(request.url.path, await request.body())
        return AnswerResponse(lambda trace: pipeline.pass_unaligned(passed, caller, trace))

    for path in _GET:
        router.add_api_route(path, pass_on, methods=["GET"])
    for path in _POST:
        router.add_api_route(path, pass_on, methods=["POST"])
    for path in GENERATING_PATHS:
        router.add_api_route(path, pass_unaligned, methods=["POST"])
    return router
