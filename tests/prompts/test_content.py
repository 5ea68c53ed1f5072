"""What the shipped prompts promise: enough of each kind, refusals beside look-alikes, no structure in their text."""

import re
from collections import Counter

import pytest

from server.core.types import Demonstration, Risk
from server.profiles.store import load_profiles
from server.rendering.sanitise import Sanitiser
from server.rendering.tokens import ModelTokenizer
from tests.conftest import PROMPTS

PROFILES = load_profiles(PROMPTS)
BANK = {item.id: item for profile in PROFILES.values() for item in (*profile.demonstrations, *profile.pinned)}
each_demonstration = pytest.mark.parametrize("item", BANK.values(), ids=BANK.keys())


def test_the_bank_is_large_and_covers_every_risk() -> None:
    risks = Counter(item.risk for item in BANK.values())
    assert len(BANK) >= 80
    assert all(risks[risk] >= 12 for risk in Risk)


def test_the_constitution_has_about_twenty_principles_of_all_aspects() -> None:
    principles = PROFILES["default"].constitution.principles
    assert 18 <= len(principles) <= 24
    assert {item.aspect for item in principles} == {"helpful", "honest", "harmless", "respectful"}
    assert all(item.pinned or item.when for item in principles)


def test_every_refusal_has_a_harmless_lookalike() -> None:
    answered = {item.contrast for item in BANK.values() if item.risk is Risk.LOOKALIKE}
    assert {item.id for item in BANK.values() if item.risk is Risk.HARMFUL} == answered


@each_demonstration
def test_refusals_refuse_and_other_answers_do_not(item: Demonstration) -> None:
    refuses = re.match(r"(I'm sorry, but )?I can't help with", item.assistant) is not None
    assert refuses == (item.risk is Risk.HARMFUL)


@each_demonstration
def test_a_demonstration_holds_no_structure(item: Demonstration, tokenizer: ModelTokenizer) -> None:
    for text in (item.user, item.assistant):
        assert Sanitiser(tokenizer.control_tokens).text(text) == text
        assert not re.search(r"^(# |User:|Assistant:|Human:)", text, re.MULTILINE)


@each_demonstration
def test_a_demonstration_is_short_enough_to_share_a_budget(
    item: Demonstration, smollm2_tokenizer: ModelTokenizer
) -> None:
    assert item.num_tokens(smollm2_tokenizer.count) <= 400


def test_no_two_demonstrations_ask_the_same() -> None:
    assert len({item.user.casefold() for item in BANK.values()}) == len(BANK)
