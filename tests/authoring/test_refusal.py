import pytest

from server.authoring.refusal import refuses
from server.core.types import Demonstration, Risk
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS

BANK = {item.id: item for profile in load_profiles(PROMPTS).values() for item in profile.demonstrations}


@pytest.mark.parametrize("item", BANK.values(), ids=BANK.keys())
def test_it_tells_the_refusals_of_the_bank_from_its_answers(item: Demonstration) -> None:
    assert refuses(item.assistant) == (item.risk is Risk.HARMFUL)


@pytest.mark.parametrize(
    "answer",
    ["I cannot assist with that request.", "I\u2019m sorry, but I can\u2019t.", "As an AI, I am not able to do so."],
)
def test_it_knows_how_models_refuse(answer: str) -> None:
    assert refuses(answer)


def test_what_comes_late_is_not_seen() -> None:
    assert not refuses("Mix flour and water. " * 20 + "I can't help with more.")
