"""No row of the public sets that we are measured by is in what we ship. Needs their folder, in ICALIGN_DATA."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from server.evaluation.datasets import Attack, Prompt, load_attacks, load_prompts, names
from server.profiles.store import load_profiles
from server.retrieval.base import Embedder
from tests.conftest import PROMPTS

DATA = os.environ.get("ICALIGN_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="ICALIGN_DATA names no folder of public sets")

NUM_WORDS = 9
# Two people who ask the same in other words come to 0.9; a row with a word changed to more than this.
MAX_SIMILARITY = 0.95


def shipped() -> Sequence[str]:
    """All texts that people wrote for prompts: messages, answers and principles, and the package's own sets."""
    profiles = load_profiles(PROMPTS).values()
    texts = [text for profile in profiles for item in profile.demonstrations for text in exchanged(item.exchanges)]
    texts += [item.user for profile in profiles for item in profile.risk_messages]
    texts += [item.text for profile in profiles for item in profile.constitution.principles]
    texts += [row.text for name in names(Prompt) if is_own(name) for row in load_prompts(name, None)]
    return list(dict.fromkeys(texts))


def exchanged(exchanges: Sequence[object]) -> Iterator[str]:
    for exchange in exchanges:
        yield exchange.user  # type: ignore[attr-defined]
        yield exchange.assistant  # type: ignore[attr-defined]


def rows() -> Sequence[str]:
    """What the public sets ask, and the templates of attacks."""
    folder = Path(DATA or "")
    prompts = [row for name in names(Prompt) if not is_own(name) for row in load_prompts(name, folder)]
    attacks = [row for name in names(Attack) if not is_own(name) for row in load_attacks(name, folder)]
    said = [message.content for row in prompts for message in row.messages if message.role == "user"]
    return list(dict.fromkeys([*said, *(row.template for row in attacks)]))


def is_own(name: str) -> bool:
    return name.startswith("fixture_")


def test_no_row_is_shipped_word_for_word() -> None:
    public = {gram: row for row in rows() for gram in grams(row)}
    found = {gram: (text, public[gram]) for text in shipped() for gram in grams(text) if gram in public}
    assert found == {}


def test_no_row_is_shipped_in_nearly_the_same_words(embedder: Embedder) -> None:
    texts, public = list(filter(is_whole, shipped())), list(filter(is_whole, rows()))
    ours, theirs = embedder.embed(texts), embedder.embed(public)
    nearest = [int(np.argmax(theirs @ vector)) for vector in ours]
    found = [
        (round(float(theirs[row] @ vector), 3), text, public[row])
        for text, vector, row in zip(texts, ours, nearest, strict=True)
        if theirs[row] @ vector > MAX_SIMILARITY
    ]
    assert found == []


def grams(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return (tuple(words[i : i + NUM_WORDS]) for i in range(len(words) - NUM_WORDS + 1))


def is_whole(text: str) -> bool:
    """Whether it is more than the few words that anybody would use, and in the script that the embedder reads."""
    return len(text.split()) >= 6 and text.isascii()
