from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from server.core.types import RiskMessage, Route, Vectors
from server.profiles.store import load_profiles
from server.retrieval.base import Embedder
from server.retrieval.judging import JudgingEmbedder, split
from server.retrieval.retriever import Retrievers
from tests.conftest import PROMPTS

PROFILE = load_profiles(PROMPTS)["default"]
MESSAGES = (
    RiskMessage("a red one", is_harmful=True, file="made"),
    RiskMessage("a blue one", is_harmful=False, file="made"),
)
QUESTION = "How do I bake bread with a red crust?"


class ColourJudge:
    """Sees nothing of a message but whether it is red."""

    name, dimension = "colours", 2

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [[1.0, 0.0] if "red" in text else [0.0, 1.0] for text in texts]
        return np.array(rows, np.float32).reshape(-1, 2)


def test_one_retrieves_and_the_other_judges(light_embedder: Embedder) -> None:
    both = JudgingEmbedder(light_embedder, ColourJudge())
    ordinary = tuple(item for item in PROFILE.demonstrations if not item.is_harmful and "red" not in item.user)
    retrieval = replace(PROFILE.retrieval, quotas=dict.fromkeys(Route, PROFILE.retrieval.quotas[Route.LOW]))
    profile = replace(PROFILE, demonstrations=ordinary, risk_messages=MESSAGES, retrieval=retrieval)
    alone, judged = (Retrievers(item, len).build([profile])[profile.label] for item in (light_embedder, both))
    found = judged.retrieve(QUESTION)
    assert found.route is Route.HIGH
    assert found.risk == pytest.approx(1)
    assert judged.retrieve(QUESTION.replace("red", "dark")).route is Route.LOW
    assert found.demonstrations == alone.retrieve(QUESTION).demonstrations
    assert judged.explain(QUESTION, 3).risk_neighbours[0].item == MESSAGES[0]


def test_what_none_needs_is_forgotten_in_both_stores(light_embedder: Embedder) -> None:
    retrievers = Retrievers(JudgingEmbedder(light_embedder, ColourJudge()), len)
    first = replace(PROFILE, risk_messages=MESSAGES)
    kept = retrievers.build([first])
    second = replace(first, id="second", demonstrations=first.demonstrations[:5])
    built = retrievers.build([second])
    assert kept[first.label].retrieve(QUESTION).demonstrations
    del kept
    built = retrievers.build([second])
    (item,) = {
        scored.item for scored in built[second.label].retrieve(second.demonstrations[0].user).demonstrations[-1:]
    }
    assert item == second.demonstrations[0]


def test_traces_name_both(light_embedder: Embedder) -> None:
    both = JudgingEmbedder(light_embedder, ColourJudge())
    assert both.name == "wordllama-256, risk by colours"
    assert both.dimension == light_embedder.dimension
    assert split(both) == (both.topics, both.judge)
    assert split(light_embedder) == (light_embedder, light_embedder)
