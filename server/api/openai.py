"""The OpenAI endpoints: aligned chat completions, and the list of models with their profiles."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.answer import AnswerResponse
from server.api.body import read_body, read_headers
from server.core.errors import UnknownModelError
from server.pipeline import Answer, Pipeline


def openai_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    @router.post("/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        """Answer a chat request, aligned by its profile; the field `alignment` chooses and overrides."""
        body, headers, content = await read_body(request), read_headers(request), await request.body()
        return AnswerResponse(lambda trace: pipeline.answer(body, headers, trace, content=content))

    @router.get("/models")
    async def list_models(request: Request) -> Response:
        """Each model of the engine, bare and with each profile."""
        headers = read_headers(request)
        return AnswerResponse(lambda _trace: pipeline.list_models(headers))

    @router.get("/models/{model:path}")
    async def show_model(model: str, request: Request) -> Response:
        """One entry of the list."""
        headers = read_headers(request)
        return AnswerResponse(lambda _trace: _pick(pipeline.list_models(headers), model))

    return router


@asynccontextmanager
async def _pick(listing: AbstractAsyncContextManager[Answer], model: str) -> AsyncIterator[Answer]:
    async with listing as answer:
        if answer.status != 200 or not isinstance(answer.body, dict):
            yield answer
            return
        entry = next((entry for entry in answer.body["data"] if entry["id"] == model), None)
        if entry is None:
            raise UnknownModelError(model)
        yield Answer(200, {}, body=entry)
