"""The aligned endpoints, and the list of models with their profiles."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.answer import AnswerResponse
from server.api.caller import read_caller
from server.core.errors import UnknownModelError
from server.engine.base import EngineRequest
from server.pipeline import Answer, Pipeline
from server.rendering.forms.registry import FORMS


def openai_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(tags=["openai"])

    async def create(request: Request) -> Response:
        """Answer a request, aligned by its profile; the field `alignment` chooses and overrides."""
        caller, asked = read_caller(request), EngineRequest(request.url.path, await request.body())
        return AnswerResponse(lambda trace: pipeline.answer(asked, caller, trace))

    for path in FORMS:
        router.add_api_route(path, create, methods=["POST"])

    @router.get("/v1/models")
    async def list_models(request: Request) -> Response:
        """Each model of the engine, bare and with each profile."""
        caller = read_caller(request)
        return AnswerResponse(lambda _trace: pipeline.list_models(caller))

    @router.get("/v1/models/{model:path}")
    async def show_model(model: str, request: Request) -> Response:
        """One entry of the list, or one with a version of its profile, as `NAME:PROFILE@VERSION`."""
        caller = read_caller(request)
        return AnswerResponse(lambda _trace: _pick(pipeline.list_models(caller, model), model))

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
