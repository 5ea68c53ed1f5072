"""Parts that many tests share. Heavy ones are made once a session."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from server.app import create_app
from server.core.types import Vectors
from server.engine.base import Engine
from server.engine.packaged import prepare_model
from server.engine.scripted import ScriptedEngine
from server.rendering.tokens import ModelTokenizer, load_tokenizer
from server.retrieval.base import Embedder
from server.retrieval.cache import DiskCache
from server.retrieval.encoders import MINILM, MPNET, OnnxEmbedder, prepare_encoder
from server.retrieval.judging import JudgingEmbedder
from server.retrieval.known import SHIPPED, KnownEmbedder
from server.retrieval.remembered import Remembered
from server.retrieval.retriever import vectors_kind
from server.retrieval.wordllama import WordLlamaEmbedder
from server.settings import EngineKind, Settings, default_cache_dir

PROMPTS = Path(__file__).parent.parent / "prompts"
_LIGHT_RISK = {
    "drugs.yaml",
    "everyday.yaml",
    "figures-of-speech.yaml",
    "fraud.yaml",
    "hacking.yaml",
    "small-talk.yaml",
    "violence.yaml",
}

_LIVE = "tests/live/"
_OWN_ENGINES = {"test_gemma.py", "test_plugin.py"}

AppFactory = Callable[..., FastAPI]


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed
    """Tests of `tests/live` come first, in two parts that share no engine; then the rest, by file.

    So each engine is started once, and no processor waits for the other at the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if not path.startswith(_LIVE):
            return path
        return "live with engines of their own" if path.removeprefix(_LIVE) in _OWN_ENGINES else "live"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduler:
    config.option.loadscopereorder = False  # it would put the files with most tests first
    return _Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LIVE))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the person who runs the tests: models, and the vectors of what is shipped, which take a minute."""
    folder = tmp_path_factory.mktemp("cache")
    for name in ("embedders", "models", "prompts"):
        (default_cache_dir() / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(default_cache_dir() / name)
    return folder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_dir: Path) -> None:
    """No icalign.toml and no ICALIGN_* variable of the person who runs the tests is in force."""
    import os

    for name in [name for name in os.environ if name.startswith("ICALIGN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ICALIGN_CACHE_DIR", str(cache_dir))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class RememberingEmbedder:
    """Embeds a text once, since many tests build an application over the same bank; `make unit` did so before them."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.dimension = embedder.name, embedder.dimension
        cache = DiskCache(default_cache_dir() / "prompts")
        self._computed = Remembered(vectors_kind(embedder), embedder.embed, np.float32, embedder.dimension, cache)
        self._remembered: dict[str, Vectors] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        for part, vectors in self._computed.of(new):
            self._remembered.update(zip(part, vectors, strict=True))
        return np.array([self._remembered[text] for text in texts], np.float32).reshape(-1, self.dimension)


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The default one, with the vectors that are on disk."""
    folder = default_cache_dir() / "embedders"
    topics, judge = (OnnxEmbedder(item, prepare_encoder(item, folder, report=print)) for item in (MINILM, MPNET))
    return JudgingEmbedder(RememberingEmbedder(topics), RememberingEmbedder(KnownEmbedder(judge, SHIPPED)))


@pytest.fixture(scope="session")
def light_embedder() -> Embedder:
    return RememberingEmbedder(WordLlamaEmbedder())


@pytest.fixture(scope="session")
def light_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped prompts with a few files of `risk/`: all of them take most of the time that loading takes."""
    folder = tmp_path_factory.mktemp("light") / "prompts"

    def ignored(parent: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(parent).name == "risk" and name not in _LIGHT_RISK]

    copytree(PROMPTS, folder, ignore=ignored)
    return folder


@pytest.fixture
def make_app(light_prompts: Path, light_embedder: Embedder) -> AppFactory:
    """Builds an application over a scripted engine with the light prompts; keyword arguments become settings."""

    def build(engine: Engine | None = None, **settings: object) -> FastAPI:
        values = {"engine": EngineKind.SCRIPTED, "prompts": light_prompts, **settings}
        return create_app(Settings.model_validate(values), engine=engine or ScriptedEngine(), embedder=light_embedder)

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
