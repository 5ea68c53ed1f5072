"""The real vLLM engine behind the real command, started once for each model."""

import os
from collections.abc import Iterator

import pytest

from tests.servers import icalign_serve

SMOLLM2 = "smollm2-135m-instruct"
GEMMA = "gemma-3-270m"


def _serve(model: str, factory: pytest.TempPathFactory, *arguments: str) -> Iterator[str]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    flags = ["--model", model, "--max-model-len", "4096", "--enforce-eager", *arguments]
    # It is no plugin of itself: requests would be aligned twice, and all tests here would see it.
    with icalign_serve(flags, factory.mktemp(model) / "log", {"VLLM_PLUGINS": "icalign"}) as url:
        yield url


@pytest.fixture(scope="session")
def smollm2_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # vLLM calls no tool, not even one that the request names, without a parser.
    yield from _serve(SMOLLM2, tmp_path_factory, "--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="session")
def gemma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _serve(GEMMA, tmp_path_factory)
