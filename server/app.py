"""Builds the parts of the server and joins them into one application. The only module that knows implementations."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from server.aligner import Aligner
from server.api.admission import Admission, AdmissionMiddleware, Key
from server.api.alignment import alignment_router
from server.api.answer import KEEP_ALIVE_KEY
from server.api.description import describe
from server.api.errors import add_error_handlers
from server.api.health import health_router
from server.api.metrics import Metrics, metrics_router
from server.api.openai import openai_router
from server.api.passthrough import passthrough_router
from server.api.trace import TraceMiddleware
from server.engine.base import Engine
from server.engine.packaged import PACKAGED_MODELS, prepare_model
from server.library import Library
from server.pipeline import Pipeline
from server.profiles.store import ProfileStore
from server.rendering.sanitise import Sanitiser
from server.rendering.tokens import EstimatingTokenizer, Tokenizer, load_tokenizer
from server.retrieval.base import Embedder
from server.retrieval.cache import DiskCache
from server.retrieval.retriever import Retrievers
from server.settings import EmbedderKind, EngineKind, Settings

Report = Callable[[str], None]


def create_app(
    settings: Settings,
    *,
    engine: Engine | None = None,
    embedder: Embedder | None = None,
    sanitiser: Sanitiser | None = None,
    report: Report = lambda _: None,
) -> FastAPI:
    """The application; its engine runs during the lifespan.

    `engine` and `embedder` replace the configured ones, and `sanitiser` the one that fits the tokenizer.

    Raises ConfigurationError for anything wrong with settings or prompt files. `report` is told of long steps.
    """
    tokenizer = load_tokenizer_for(settings, report)
    embedder = embedder or load_embedder(settings, report)
    library = load_library(settings, embedder, tokenizer, report)
    aligner = Aligner(
        tokenizer,
        embedder_name=embedder.name,
        continues_messages=settings.continues_messages,
        sanitiser=sanitiser,
    )
    engine = engine or build_engine(settings, report)
    pipeline = Pipeline(engine, library, aligner, window_tokens=settings.window_tokens)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pipeline.engine.running(), anyio.create_task_group() as tasks:
            if settings.watch_prompts:
                tasks.start_soon(library.watch)
            yield
            tasks.cancel_scope.cancel()

    app = FastAPI(title="icalign", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.admission = _build_admission(settings)
    # The last one added is the outermost.
    app.add_middleware(AdmissionMiddleware, admission=app.state.admission)
    app.add_middleware(TraceMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    add_error_handlers(app)
    for router in (openai_router, alignment_router, passthrough_router, health_router):
        app.include_router(router(pipeline))
    app.state.metrics = Metrics(library)
    app.include_router(metrics_router(pipeline, app.state.metrics))
    describe(app, api_routes(app), has_keys=bool(settings.api_keys))
    app.state.pipeline = pipeline
    setattr(app.state, KEEP_ALIVE_KEY, settings.keep_alive_s)
    return app


def api_routes(app: FastAPI) -> list[APIRoute]:
    """The routes that are endpoints, as opposed to the document that describes them."""
    return [route for route in app.routes if isinstance(route, APIRoute)]


def _build_admission(settings: Settings) -> Admission:
    keys = [
        Key(entry.name, entry.key.get_secret_value(), tuple(entry.profiles) if entry.profiles else None)
        for entry in settings.api_keys
    ]
    return Admission(keys=keys, max_requests=settings.max_requests, max_body_bytes=settings.max_body_bytes)


def build_engine(settings: Settings, report: Report) -> Engine:
    """The engine that `settings` name, not yet running."""
    if settings.engine is EngineKind.VLLM:
        from server.engine.vllm import VllmEngine

        return VllmEngine(
            model_location(settings, report),
            served_name=settings.served_name or settings.model,
            arguments=settings.engine_args,
        )
    if settings.engine is EngineKind.UPSTREAM:
        from server.engine.upstream import UpstreamEngine

        assert settings.upstream is not None
        return UpstreamEngine(
            settings.upstream,
            api_key=settings.upstream_api_key.get_secret_value() if settings.upstream_api_key else None,
            max_connections=settings.upstream_max_connections,
            timeout_s=settings.upstream_timeout_s,
        )
    from server.engine.scripted import ScriptedEngine, load_script

    answers = load_script(settings.script) if settings.script else ()
    return ScriptedEngine(answers, model=settings.served_name or "scripted")


def load_library(
    settings: Settings, embedder: Embedder, tokenizer: Tokenizer, report: Report = lambda _: None
) -> Library:
    """The prompt files with all that is built from them; what took long is kept on disk. Raises ConfigurationError."""
    retrievers = Retrievers(
        embedder,
        tokenizer.count,
        counter=f"{tokenizer.name} {tokenizer.fingerprint[:16]}",
        cache=DiskCache(settings.cache_dir / "prompts"),
        report=report,
    )
    required = {name: f"api_keys: key {entry.name!r}" for entry in settings.api_keys for name in entry.profiles or ()}
    return Library(
        ProfileStore(settings.prompts),
        retrievers,
        default_profile=default_profile_for(settings),
        required=required,
        num_versions=settings.keep_versions,
    )


def model_location(settings: Settings, report: Report) -> str:
    """Folder or Hugging Face name of the model; a packaged one is prepared first."""
    if settings.model in PACKAGED_MODELS:
        return str(prepare_model(settings.model, settings.cache_dir / "models", report=report))
    return settings.model


def default_profile_for(settings: Settings) -> str:
    """The profile of requests that name none: as configured, else what fits the model."""
    packaged = PACKAGED_MODELS.get(settings.model) if settings.engine is EngineKind.VLLM else None
    return settings.default_profile or (packaged.profile if packaged else "default")


def load_tokenizer_for(settings: Settings, report: Report) -> Tokenizer:
    """What counts tokens for the engine that `settings` name; estimates where that cannot be known."""
    if settings.tokenizer is not None:
        return load_tokenizer(settings.tokenizer, Path(settings.tokenizer).name)
    if settings.engine is EngineKind.UPSTREAM:
        report("No tokenizer is set for the upstream: tokens are estimated, and only common control tokens are broken.")
    if settings.engine is EngineKind.VLLM:
        return load_tokenizer(model_location(settings, report), settings.model)
    return EstimatingTokenizer()


def load_embedder(settings: Settings, report: Report) -> Embedder:
    """The embedder that `settings` name; mpnet and minilm are exported on the first call. Raises ConfigurationError."""
    from server.retrieval.encoders import MINILM, MPNET, OnnxEmbedder, is_available, prepare_encoder
    from server.retrieval.judging import JudgingEmbedder
    from server.retrieval.known import SHIPPED, KnownEmbedder

    folder: Path = settings.cache_dir / "embedders"
    wanted, has_minilm = settings.embedder, is_available(MINILM, folder)
    if wanted is EmbedderKind.AUTO:
        has_mpnet = has_minilm and is_available(MPNET, folder)
        wanted = EmbedderKind.MPNET if has_mpnet else EmbedderKind.MINILM if has_minilm else EmbedderKind.WORDLLAMA
    if wanted is EmbedderKind.WORDLLAMA:
        from server.retrieval.wordllama import WordLlamaEmbedder

        return WordLlamaEmbedder()
    minilm = OnnxEmbedder(MINILM, prepare_encoder(MINILM, folder, report=report))
    if wanted is EmbedderKind.MINILM:
        return minilm
    mpnet = OnnxEmbedder(MPNET, prepare_encoder(MPNET, folder, report=report))
    return JudgingEmbedder(minilm, KnownEmbedder(mpnet, SHIPPED))
