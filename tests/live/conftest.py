"""The real vLLM engine behind the real command, started once for each model, and vLLM's own server beside it."""

import os
from collections.abc import Iterator

import pytest

from server.engine.packaged import prepare_model
from server.settings import default_cache_dir
from tests.servers import icalign_serve, stock_vllm_serve

SMOLLM2 = "smollm2-135m-instruct"
GEMMA = "gemma-3-270m"

# The tool parser and the details make more of vLLM's answers comparable; where no tools are sent they change nothing.
_ENGINE_ARGUMENTS = ("--max-model-len", "4096", "--enforce-eager", "--enable-prompt-tokens-details")
_TOOL_ARGUMENTS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


def _serve(model: str, factory: pytest.TempPathFactory) -> Iterator[str]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    arguments = ["--model", model, *_ENGINE_ARGUMENTS, *_TOOL_ARGUMENTS]
    with icalign_serve(arguments, factory.mktemp(model) / "log") as url:
        yield url


@pytest.fixture(scope="session")
def smollm2_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _serve(SMOLLM2, tmp_path_factory)


@pytest.fixture(scope="session")
def gemma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _serve(GEMMA, tmp_path_factory)


@pytest.fixture(scope="session")
def stock_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server with the model and the options that `smollm2_url` serves."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    folder = prepare_model(SMOLLM2, default_cache_dir() / "models", report=print)
    names = ["--model", str(folder), "--served-model-name", SMOLLM2]
    # What icalign adds on the CPU by itself.
    arguments = [*names, *_ENGINE_ARGUMENTS, *_TOOL_ARGUMENTS, "--no-enable-chunked-prefill"]
    with stock_vllm_serve(arguments, tmp_path_factory.mktemp("stock") / "log") as url:
        yield url
