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
REFUSALS = {
    "en": "(I'm sorry, but )?I can't help with",
    "de": "Es tut mir leid, aber ich kann nicht dabei helfen",
    "fr": "Je suis désolé, mais je ne peux pas vous aider",
    "es": "Lo siento, pero no puedo ayudarte",
    "pt": "Sinto muito, mas não posso ajudar",
    "zh": "抱歉，我不能帮你",  # noqa: RUF001 - Chinese has commas of its own
    "ar": "عذرًا، لكن لا يمكنني مساعدتك",
}
# A tokenizer trained on English alone cuts other scripts into many pieces.
MAX_TOKENS = {"ar": 800, "zh": 600}
each_demonstration = pytest.mark.parametrize("item", BANK.values(), ids=BANK.keys())


def test_the_bank_is_large_and_covers_every_risk() -> None:
    risks = Counter(item.risk for item in BANK.values())
    assert len(BANK) >= 240
    assert all(risks[risk] >= 20 for risk in Risk)


def test_the_messages_are_many_of_either_label() -> None:
    labels = Counter(item.is_harmful for item in PROFILES["default"].risk_messages)
    assert all(labels[label] >= 1500 for label in (True, False))
    assert {item.file for item in PROFILES["base"].risk_messages} == {
        path.stem for path in (PROMPTS / "risk").iterdir()
    }


def test_the_bank_has_pairs_on_many_harms() -> None:
    pairs = Counter(BANK[item.contrast].topic for item in BANK.values() if item.contrast)
    assert sum(pairs.values()) >= 60
    topics = [path.stem for path in (PROMPTS / "demonstrations").glob("harm-*.yaml")]
    assert len(topics) >= 15


def test_the_bank_speaks_several_languages_and_holds_conversations() -> None:
    languages = Counter(item.language for item in BANK.values())
    assert len(languages) > 5
    assert min(languages.values()) >= 5
    assert sum(bool(item.history) for item in BANK.values()) >= 10


@pytest.mark.parametrize(
    ("name", "low", "high"), [("default", 18, 24), ("public-service", 16, 22), ("company", 25, 40)]
)
def test_a_constitution_has_principles_of_all_aspects(name: str, low: int, high: int) -> None:
    principles = PROFILES[name].constitution.principles
    assert low <= len(principles) <= high
    assert {item.aspect for item in principles} == {"helpful", "honest", "harmless", "respectful"}
    assert all(item.pinned != bool(item.when) for item in principles)


def test_every_constitution_has_a_profile_for_either_rendering() -> None:
    pairs = {(profile.constitution.id, profile.rendering.value) for profile in PROFILES.values()}
    names = ("general", "public-service", "company")
    assert {(name, rendering) for name in names for rendering in ("chat", "completion")} <= pairs


def test_every_refusal_has_a_harmless_lookalike() -> None:
    answered = {item.contrast for item in BANK.values() if item.risk is Risk.LOOKALIKE}
    assert {item.id for item in BANK.values() if item.risk is Risk.HARMFUL} == answered


@each_demonstration
def test_refusals_refuse_and_other_answers_do_not(item: Demonstration) -> None:
    refuses = re.match(REFUSALS[item.language], item.assistant) is not None
    assert refuses == (item.risk is Risk.HARMFUL)


@each_demonstration
def test_a_demonstration_holds_no_structure(item: Demonstration, tokenizer: ModelTokenizer) -> None:
    for text in (text for exchange in item.exchanges for text in (exchange.user, exchange.assistant)):
        assert Sanitiser(tokenizer.control_tokens).text(text) == text
        assert not re.search(r"^(# |User:|Assistant:|Human:)", text, re.MULTILINE)


@each_demonstration
def test_a_demonstration_is_short_enough_to_share_a_budget(
    item: Demonstration, smollm2_tokenizer: ModelTokenizer
) -> None:
    assert item.num_tokens(smollm2_tokenizer.count) <= MAX_TOKENS.get(item.language, 420)


def test_no_two_demonstrations_ask_the_same() -> None:
    assert len({(item.history, item.user.casefold()) for item in BANK.values()}) == len(BANK)
