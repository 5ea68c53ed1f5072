"""Liveness, for whoever restarts the process, and readiness, for whoever sends it traffic. Failures are 503."""

from fastapi import APIRouter
from fastapi.responses import Response

from server.api.errors import json_response
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
    async def ready() -> Response:
        """The engine answers too."""
        await pipeline.engine.check()
        return json_response(200, {"status": "ready", "models": list(await pipeline.engine.list_models())})

    return router
