"""The OpenAI endpoints: aligned chat completions, and the list of models with their profiles."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.answer import AnswerResponse
from server.api.body import read_body
from server.api.errors import error_body, json_response
from server.core.types import Body
from server.pipeline import Pipeline


def openai_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(prefix="/v1", tags=["openai"])
    created = int(time.time())

    @router.post("/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        """Answer a chat request, aligned by its profile; the field `alignment` chooses and overrides."""
        body, headers = await read_body(request), dict(request.headers)
        return AnswerResponse(lambda trace: pipeline.answer(body, headers, trace))

    @router.get("/models")
    async def list_models() -> Response:
        """Each model of the engine, bare and with each profile."""
        return json_response(200, {"object": "list", "data": await _models(pipeline, created)})

    @router.get("/models/{model:path}")
    async def show_model(model: str) -> Response:
        """One entry of the list."""
        for entry in await _models(pipeline, created):
            if entry["id"] == model:
                return json_response(200, entry)
        message = f"There is no model {model!r}; GET /v1/models lists them."
        return json_response(404, error_body(message, "invalid_request_error", param="model", code="model_not_found"))

    return router


async def _models(pipeline: Pipeline, created: int) -> list[Body]:
    names = await pipeline.engine.list_models()
    pairs = [(name, profile) for name in names for profile in (None, *sorted(pipeline.prompts.profiles))]
    return [_model(pipeline, name, profile, created) for name, profile in pairs]


def _model(pipeline: Pipeline, name: str, profile: str | None, created: int) -> Body:
    prompts = pipeline.prompts
    applied = prompts.profiles[profile or prompts.default_profile]
    return {
        "id": f"{name}:{profile}" if profile else name,
        "object": "model",
        "created": created,
        "owned_by": "icalign",
        "root": name,
        "parent": name if profile else None,
        "alignment": {"profile": applied.id, "version": applied.version},
    }
