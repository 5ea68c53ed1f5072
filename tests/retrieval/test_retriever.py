from collections.abc import Sequence
from dataclasses import replace

import pytest

from server.core.types import Profile, Risk, Route, Vectors
from server.profiles.store import load_profiles
from server.retrieval.base import Embedder
from server.retrieval.retriever import Retriever, Retrievers
from tests.conftest import PROMPTS

PROFILE = load_profiles(PROMPTS)["default"]


def count_words(text: str) -> int:
    return len(text.split())


def build(profile: Profile, embedder: Embedder) -> Retriever:
    return Retrievers(embedder, count_words).build([profile])[profile.label]


@pytest.fixture(scope="module")
def retriever(embedder: Embedder) -> Retriever:
    return build(PROFILE, embedder)


def test_each_text_is_embedded_once_for_all_profiles(embedder: Embedder) -> None:
    class Recording:
        name, dimension = embedder.name, embedder.dimension

        def __init__(self) -> None:
            self.seen: list[str] = []

        def embed(self, texts: Sequence[str]) -> Vectors:
            self.seen.extend(texts)
            return embedder.embed(texts)

    recording = Recording()
    Retrievers(recording, count_words).build([PROFILE, replace(PROFILE, id="twin")])
    assert len(recording.seen) == len(set(recording.seen)) > 100


def test_its_own_message_finds_a_demonstration_first_and_shows_it_last(retriever: Retriever) -> None:
    wanted = next(item for item in PROFILE.demonstrations if item.risk is Risk.BENIGN)
    assert retriever.neighbours(wanted.user, 3)[0].item == wanted
    chosen = retriever.retrieve(wanted.user).demonstrations
    assert chosen[-1].item == wanted
    assert chosen[-1].similarity == pytest.approx(1, abs=1e-4)


def test_a_harmful_message_is_routed_high_with_a_contrast(retriever: Retriever) -> None:
    wanted = next(item for item in PROFILE.demonstrations if item.risk is Risk.HARMFUL)
    selection = retriever.retrieve(wanted.user)
    risks = [scored.item.risk for scored in selection.demonstrations]
    assert selection.route is Route.HIGH
    assert Risk.HARMFUL in risks
    assert Risk.LOOKALIKE in risks


def test_a_harmless_message_is_shown_no_refusal(retriever: Retriever) -> None:
    selection = retriever.retrieve("What is a good recipe for apple pie?")
    assert selection.route is Route.LOW
    assert Risk.HARMFUL not in {scored.item.risk for scored in selection.demonstrations}


def test_pinned_items_spend_the_budget_first(embedder: Embedder) -> None:
    first, *rest = PROFILE.demonstrations
    cost = first.num_tokens(count_words)
    profile = replace(PROFILE, pinned=(first,), demonstrations=tuple(rest))
    retrieval = replace(profile.retrieval, budget_tokens=cost + 1)
    selection = build(profile, embedder).retrieve("hello", replace(profile, retrieval=retrieval))
    assert (selection.pinned, selection.demonstrations) == ((first,), ())


def test_principles_follow_the_route_and_keep_the_constitutions_order(retriever: Retriever) -> None:
    order = [item.id for item in PROFILE.constitution.principles]
    low = retriever.retrieve("Write a python function that parses dates")
    assert "code-that-runs" in {scored.item.id for scored in low.retrieved_principles}
    shown = [scored.item.id for scored in low.retrieved_principles]
    assert shown == sorted(shown, key=order.index)
    assert all(Route.LOW in scored.item.routes for scored in low.retrieved_principles)
    assert all(item.pinned for item in low.principles)


def test_the_same_message_gives_the_same_selection(retriever: Retriever) -> None:
    assert retriever.retrieve("How do magnets work?") == retriever.retrieve("How do magnets work?")


def test_a_bank_of_nothing_selects_nothing(embedder: Embedder) -> None:
    selection = build(replace(PROFILE, demonstrations=()), embedder).retrieve("hello")
    assert (selection.risk, selection.demonstrations) == (0.0, ())
