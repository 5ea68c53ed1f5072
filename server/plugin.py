"""icalign inside a stock vLLM server, in place of its routes: `VLLM_PLUGINS=icalign vllm serve MODEL`.

vLLM logs and forgets a plugin that it cannot load or make, and serves on without it. So loading and making this one
does nothing that can fail; all of it happens in `attach_router`, from where a failure ends the server.
"""

import logging
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from server.settings import Settings

_logger = logging.getLogger(__name__)

# What watches the server stays vLLM's own.
_STOCK_PATHS = frozenset({"/health", "/metrics", "/version"})
_ENGINE_SETTINGS = ("upstream", "script", "engine_args")


class Plugin:
    """What the entry point names in vLLM's group `vllm.endpoint_plugins`; vLLM describes it as EndpointPlugin."""

    name = "icalign"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Put icalign's endpoints in place of those that `app` has. Exits with a message where it is misconfigured."""
        from server.core.errors import IcalignError

        try:
            _attach(app)
        except IcalignError as error:
            # Not an Exception, so that nobody takes it for one plugin's misfortune and serves unaligned.
            raise SystemExit(f"icalign: {error}") from error

    async def init_state(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Nothing: the engine is reached through vLLM's own routes and their state."""


def _attach(host: FastAPI) -> None:
    from server.api.description import describe
    from server.app import api_routes, create_app
    from server.engine.vllm import HostedEngine
    from server.settings import load_settings

    settings = load_settings({})
    _refuse_engine_settings(settings)
    _set_up_logging(settings.log_level)
    engine = HostedEngine(host)
    hosted = {"model": engine.model, "tokenizer": settings.tokenizer or engine.tokenizer}
    app = create_app(settings.model_copy(update=hosted), engine=engine, report=_logger.info)
    routes = [route for route in api_routes(app) if route.path not in _STOCK_PATHS]
    host.router.routes.extend(_forwarded(route, app) for route in routes)
    describe(host, routes, has_keys=bool(settings.api_keys))
    _nest_lifespan(app, host)
    prompts = app.state.pipeline.library.current
    _logger.info(
        "Profile %s unless asked otherwise, of %s.",
        prompts.default_profile,
        ", ".join(sorted(prompts.profiles.current)),
    )


def _refuse_engine_settings(settings: "Settings") -> None:
    """Settings of another engine, or of one that is started otherwise, contradict the server that runs."""
    from server.core.errors import ConfigurationError

    if given := [name for name in _ENGINE_SETTINGS if getattr(settings, name)]:
        raise ConfigurationError(f"{', '.join(given)}: inside a vLLM server that server is the engine; unset this.")
    if settings.engine != "vllm":
        raise ConfigurationError(f"engine: {settings.engine.value} cannot run inside a vLLM server; unset this.")


def _set_up_logging(level: str) -> None:
    """Show icalign's log, unless it is set up already: vLLM sets up its own loggers only."""
    logger = logging.getLogger("server")
    if logger.level == logging.NOTSET:
        logger.setLevel(level.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


def _forwarded(route: APIRoute, app: FastAPI) -> APIRoute:
    """`route` as an entry of another application, calling `app` with all that stands around its routes."""

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        # A path is relative to the hosting server's root from here on; `app` writes into its scope.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        await app({**scope, "path": path, "root_path": ""}, receive, send)

    forwarded = copy(route)
    forwarded.app = forward
    return forwarded


def _nest_lifespan(app: FastAPI, host: FastAPI) -> None:
    """Have `app` live within the life of `host`, and its metrics among those that vLLM's own /metrics shows."""
    from prometheus_client import REGISTRY

    outer, metrics = host.router.lifespan_context, app.state.metrics

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[Any]:
        async with outer(host) as state, app.router.lifespan_context(app):
            REGISTRY.register(metrics)
            try:
                yield state
            finally:
                REGISTRY.unregister(metrics)

    host.router.lifespan_context = lifespan
