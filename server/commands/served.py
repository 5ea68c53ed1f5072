"""The servers that commands measure: one that runs elsewhere, or applications of this process over one engine."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from fastapi import FastAPI

from server.app import build_engine, create_app, default_profile_for, load_embedder
from server.commands.output import remark
from server.core.errors import ConfigurationError
from server.core.types import Rendering
from server.engine.base import Engine, EngineReply, EngineRequest
from server.evaluation.arms import (
    CHANCE,
    LADDER,
    UNSANITISED,
    Arm,
    ChanceEmbedder,
    TrustingSanitiser,
    load_arm,
    profile_arm,
    with_arms,
)
from server.evaluation.candidates import sweep_arms
from server.evaluation.search_space import load_space
from server.evaluation.session import HttpSession, default_profile_at, first_model
from server.profiles.store import load_profiles
from server.retrieval.base import Embedder
from server.settings import EmbedderKind, EngineKind, Settings

_TIMEOUT_S = 600.0
# Without it vLLM does not say what of a prompt was cached.
_TELLS_CACHED = "--enable-prompt-tokens-details"


@dataclass(frozen=True)
class Server:
    """Whom to ask, and under which arms."""

    session: HttpSession
    arms: Sequence[Arm]


@asynccontextmanager
async def elsewhere(url: str, api_key: str | None, profiles: Sequence[str]) -> AsyncIterator[Server]:
    """The icalign server at `url`, with `profiles` of its own; without any, `off` and its default.

    Raises EngineError where it does not answer.
    """
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    base = url.rstrip("/").removesuffix("/v1")
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=_TIMEOUT_S) as client:
        model = await first_model(client)
        names = profiles or ["off", await default_profile_at(client)]
        yield Server(HttpSession({None: client}, model), [profile_arm(name, name) for name in dict.fromkeys(names)])


@asynccontextmanager
async def here(
    settings: Settings, profiles: Sequence[str], arms: Sequence[str], sweep: Path | None, seed: int
) -> AsyncIterator[Server]:
    """Applications over the engine of `settings`: one for each embedder that arms compare texts with.

    `arms` are steps of the ladder to the first of `profiles`, or changes of it; so is every value of the space in the
    file `sweep`. Raises ConfigurationError and EngineStartError.
    """
    chosen = _choose(settings, profiles, arms, sweep)
    async with Host(settings) as host, host.serve(chosen, seed) as server:
        yield server


class Host:
    """The engine of `settings` under applications with other prompts at each time.

    It starts once the prompts of the first are found sound, and stops when the context is left. Raises
    ConfigurationError.
    """

    def __init__(self, settings: Settings) -> None:
        self.embedder = load_embedder(settings, remark)
        self._settings = settings.model_copy(
            update={"watch_prompts": False, "api_keys": [], "engine_args": _engine_args(settings)}
        )
        self._engine = build_engine(self._settings, remark)
        self._running = AsyncExitStack()
        self._has_started = False

    async def __aenter__(self) -> Self:
        self._running.enter_context(_quiet())
        return self

    async def __aexit__(self, *fault: Any) -> bool | None:
        return await self._running.__aexit__(*fault)

    @asynccontextmanager
    async def serve(self, arms: Sequence[Arm], seed: int = 0) -> AsyncIterator[Server]:
        """Whom to ask under `arms`. Raises ConfigurationError and EngineStartError."""
        with with_arms(self._settings.prompts, arms) as prompts:
            apps = self._build_apps(prompts, arms, seed)
            await self._start()
            async with _open_clients(apps) as clients:
                salts_cache = self._settings.engine is EngineKind.VLLM
                model = await first_model(clients[None])
                yield Server(HttpSession(clients, model, salts_cache=salts_cache), arms)

    def _build_apps(self, prompts: Path, arms: Sequence[Arm], seed: int) -> Mapping[str | None, FastAPI]:
        settings = self._settings.model_copy(update={"prompts": prompts})
        return {
            name: create_app(
                settings,
                engine=_Lent(self._engine),
                embedder=self._embedder(name, seed),
                sanitiser=TrustingSanitiser() if name == UNSANITISED else None,
                report=remark,
            )
            for name in dict.fromkeys((None, *(arm.host for arm in arms)))
        }

    def _embedder(self, name: str | None, seed: int) -> Embedder:
        if name in {None, UNSANITISED}:
            return self.embedder
        if name == CHANCE:
            return ChanceEmbedder(seed)
        return load_embedder(self._settings.model_copy(update={"embedder": EmbedderKind(name)}), remark)

    async def _start(self) -> None:
        if not self._has_started:
            await self._running.enter_async_context(self._engine.running())
            self._has_started = True


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line in the log for every request, which some libraries turn on for all by being imported."""
    loggers = [logging.getLogger(name) for name in ("server.trace", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@asynccontextmanager
async def _open_clients(apps: Mapping[str | None, FastAPI]) -> AsyncIterator[Mapping[str | None, httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        clients: dict[str | None, httpx.AsyncClient] = {}
        for name, app in apps.items():
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://icalign", timeout=_TIMEOUT_S)
            clients[name] = await stack.enter_async_context(client)
        yield clients


def _engine_args(settings: Settings) -> list[str]:
    is_silent = settings.engine is EngineKind.VLLM and _TELLS_CACHED not in settings.engine_args
    return [*settings.engine_args, *([_TELLS_CACHED] if is_silent else [])]


def _choose(settings: Settings, names: Sequence[str], steps: Sequence[str], sweep: Path | None) -> list[Arm]:
    """The arms that are named; else the profiles that are, if several; else the ladder up to the one profile.

    A sweep goes with the profile itself, unless arms are named.
    """
    profiles = load_profiles(settings.prompts)
    first, *others = names or [default_profile_for(settings)]
    if unknown := [name for name in (first, *others) if name not in profiles]:
        raise ConfigurationError(f"profile: there is no {unknown[0]!r}; there are {', '.join(profiles)}.")
    is_ladder = not others and profiles[first].rendering is not Rendering.NONE
    steps = steps or (("ours",) if sweep else LADDER if is_ladder else ())
    arms = [load_arm(step, profiles[first]) for step in steps] or [profile_arm(first, first)]
    arms += [profile_arm(name, name) for name in others]
    arms += sweep_arms(settings.prompts, first, load_space(sweep)) if sweep else []
    ids = [arm.id for arm in arms]
    if repeated := [name for name in ids if ids.count(name) > 1]:
        raise ConfigurationError(f"arm: {repeated[0]!r} is given twice.")
    return arms


class _Lent:
    """An engine that runs already, for an application that would start it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    def open(self, request: EngineRequest) -> AbstractAsyncContextManager[EngineReply]:
        return self._engine.open(request)

    async def check(self) -> None:
        await self._engine.check()
