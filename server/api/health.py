"""Liveness, for whoever restarts the process, and readiness, for whoever sends it traffic. Failures are 503."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.caller import read_caller
from server.api.errors import json_response
from server.core.errors import DrainingError, EngineUnavailableError
from server.pipeline import Pipeline


def health_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(tags=["health"])

    @router.get("/health")
    async def health() -> Response:
        """The process can serve, or could if its upstream were up."""
        await pipeline.engine.check()
        return json_response(200, {"status": "ok"})

    @router.get("/ready")
    async def ready(request: Request) -> Response:
        """The engine answers too. One that asks for a key which only clients have is taken to answer."""
        if request.app.state.admission.is_draining:
            raise DrainingError("The server is stopping.")
        await pipeline.engine.check()
        async with pipeline.list_models(read_caller(request)) as answer:
            if answer.status >= 500:
                raise EngineUnavailableError(f"The engine answers {answer.status}.")
        return json_response(200, {"status": "ready"})

    return router
