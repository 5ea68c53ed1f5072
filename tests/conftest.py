"""Parts that many tests share. Heavy ones are made once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from server.app import create_app
from server.engine.base import Engine
from server.engine.packaged import prepare_model
from server.engine.scripted import ScriptedEngine
from server.rendering.tokens import ModelTokenizer, load_tokenizer
from server.retrieval.base import Embedder
from server.retrieval.minilm import MiniLMEmbedder, prepare_minilm
from server.settings import EmbedderKind, EngineKind, Settings, default_cache_dir

PROMPTS = Path(__file__).parent.parent / "prompts"

AppFactory = Callable[..., FastAPI]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No icalign.toml and no ICALIGN_* variable of the person who runs the tests is in force."""
    import os

    for name in [name for name in os.environ if name.startswith("ICALIGN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return MiniLMEmbedder(prepare_minilm(default_cache_dir() / "embedders", report=print))


@pytest.fixture
def make_app() -> AppFactory:
    """Builds an application over a scripted engine with the shipped prompts; keyword arguments become settings."""

    def build(engine: Engine | None = None, **settings: object) -> FastAPI:
        values = {"engine": EngineKind.SCRIPTED, "embedder": EmbedderKind.WORDLLAMA, "prompts": PROMPTS, **settings}
        return create_app(Settings.model_validate(values), engine=engine or ScriptedEngine())

    return build


def _tokenizer(name: str) -> ModelTokenizer:
    # The cache outside the repository, as `make serve` fills it; the first run converts the model.
    return load_tokenizer(str(prepare_model(name, default_cache_dir() / "models", report=print)), name)


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> ModelTokenizer:
    return _tokenizer("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def gemma_tokenizer() -> ModelTokenizer:
    return _tokenizer("gemma-3-270m")


@pytest.fixture(scope="session", params=["smollm2", "gemma"])
def tokenizer(request: pytest.FixtureRequest) -> ModelTokenizer:
    fixture: ModelTokenizer = request.getfixturevalue(f"{request.param}_tokenizer")
    return fixture
