"""The prompt tests of the shipped prompts, with the embedder and the tokenizer that serve them by default."""

import pytest

from server.aligner import Aligner
from server.app import load_library
from server.authoring.prompt_tests import Case, check_names, load_cases, run_case
from server.authoring.rendered import Renderer
from server.rendering.tokens import ModelTokenizer
from server.retrieval.base import Embedder
from server.settings import EngineKind, Settings
from tests.conftest import PROMPTS

CASES = load_cases(PROMPTS)


@pytest.fixture(scope="module")
def renderer(embedder: Embedder, smollm2_tokenizer: ModelTokenizer) -> Renderer:
    settings = Settings(engine=EngineKind.SCRIPTED, prompts=PROMPTS)
    library = load_library(settings, embedder, smollm2_tokenizer)
    return Renderer(library.current, Aligner(smollm2_tokenizer, embedder_name=embedder.name))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_prompt_test_passes(case: Case, renderer: Renderer, smollm2_tokenizer: ModelTokenizer) -> None:
    assert run_case(case, renderer, smollm2_tokenizer).failures == ()


def test_they_name_what_is_there_and_cover_every_profile(renderer: Renderer) -> None:
    check_names(CASES, renderer.prompts.profiles.current)
    assert {case.profile for case in CASES} == set(renderer.prompts.profiles.current)
