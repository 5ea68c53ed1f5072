"""The real vLLM engine behind the real command, started once for each model, and vLLM's own server beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import pytest

from server.app import create_app
from server.engine.packaged import prepare_model
from server.engine.vllm import cpu_dtype
from server.settings import EngineKind, Settings, default_cache_dir
from tests.conftest import PROMPTS
from tests.servers import icalign_serve, served, vllm_serve

SMOLLM2 = "smollm2-135m-instruct"
GEMMA = "gemma-3-270m"
OPENING = "I'm sorry, but I can't help with"
# The general ones, which show demonstrations on every route; those of the models' own have tests of their own.
_PROFILES = {SMOLLM2: "default", GEMMA: "base"}

# vLLM calls no tool, not even one that the request names, without a parser. Nothing changes where none are sent.
_ENGINE_ARGUMENTS = ("--max-model-len", "4096", "--enforce-eager", "--enable-prompt-tokens-details")
_TOOL_ARGUMENTS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


def share_processors() -> None:
    """Engines run beside each other and beside other tests: a thread for each of their processors, bound to none.

    Bound, all of them would have the same ones.
    """
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    num_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_workers)))


def _serve(model: str, factory: pytest.TempPathFactory) -> Iterator[str]:
    share_processors()
    flags = ["--model", model, "--default-profile", _PROFILES[model], *_ENGINE_ARGUMENTS, *_TOOL_ARGUMENTS]
    # It is no plugin of itself: requests would be aligned twice, and all tests here would see it.
    with icalign_serve(flags, factory.mktemp(model) / "log", {"VLLM_PLUGINS": "icalign"}) as url:
        yield url


@pytest.fixture(scope="session")
def smollm2_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _serve(SMOLLM2, tmp_path_factory)


@pytest.fixture(scope="session")
def gemma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _serve(GEMMA, tmp_path_factory)


@contextmanager
def opened(url: str, folder: Path) -> Iterator[str]:
    """A server in upstream mode before the one at `url`; its profiles default and base open every answer with OPENING.

    Its models are those of `url` with `:off`, so that requests are aligned once.
    """
    copytree(PROMPTS, folder)
    for name in ("default", "base"):
        with (folder / "profiles" / f"{name}.yaml").open("a", encoding="utf-8") as file:
            file.write(f'openings: {{low: "{OPENING}", elevated: "{OPENING}", high: "{OPENING}"}}\n')
    upstream = {"engine": EngineKind.UPSTREAM, "upstream": f"{url}/v1", "upstream_continues": True}
    with served(create_app(Settings.model_validate({**upstream, "prompts": folder}))) as front:
        yield front


@pytest.fixture(scope="session")
def stock_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server with the model and the options that `smollm2_url` serves."""
    share_processors()
    folder = prepare_model(SMOLLM2, default_cache_dir() / "models", report=print)
    names = ["--model", str(folder), "--served-model-name", SMOLLM2]
    # What icalign adds on the CPU by itself.
    arguments = [*names, *_ENGINE_ARGUMENTS, *_TOOL_ARGUMENTS, "--no-enable-chunked-prefill", "--dtype", cpu_dtype()]
    offline = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with vllm_serve(arguments, tmp_path_factory.mktemp("stock") / "log", offline) as url:
        yield url
