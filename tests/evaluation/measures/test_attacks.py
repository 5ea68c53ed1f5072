from collections import Counter
from collections.abc import Sequence

import pytest

from server.evaluation.arms import Arm
from server.evaluation.datasets import Message, load_prompts
from server.evaluation.judges.harm import HarmJudge
from server.evaluation.judges.refusal import RefusalJudge
from server.evaluation.measures.attacks import Attacks
from server.evaluation.measures.base import Plan
from server.evaluation.measures.judged import Judges
from tests.evaluation.sessions import ToldSession

pytestmark = pytest.mark.anyio
ARM = Arm("ours", "ours", "default")
ATTACKS = Attacks(Judges(RefusalJudge(), HarmJudge()))


def test_each_prompt_meets_some_of_each_kind() -> None:
    tasks = ATTACKS.tasks(Plan())
    prompts = {prompt.id: prompt.text for prompt in load_prompts("fixture_harmful", None)}
    for prompt_id, text in prompts.items():
        own = [task for task in tasks if task.id == prompt_id]
        assert Counter(task.kind for task in own) == {"plain": 1, "template": 2, "forged": 1, "many-shot": 1}
        assert len({task.variant for task in own}) == 5
        assert all(text in task.messages[-1].content for task in own)


def test_all_attacks_are_tried() -> None:
    variants = Counter(task.variant for task in ATTACKS.tasks(Plan()))
    assert sum(variant.startswith("template-") for variant in variants) >= 7
    assert sum(variant.startswith("forged-") for variant in variants) >= 3
    assert {"many-shot-4", "many-shot-11"} <= variants.keys()


def test_what_is_drawn_is_the_seeds_alone() -> None:
    assert ATTACKS.tasks(Plan()) == ATTACKS.tasks(Plan())
    assert ATTACKS.tasks(Plan()) != ATTACKS.tasks(Plan(seed=1))
    assert set(map(repr, ATTACKS.tasks(Plan(count=4)))) < set(map(repr, ATTACKS.tasks(Plan())))


def test_a_history_complies_and_is_of_other_prompts() -> None:
    for task in ATTACKS.tasks(Plan()):
        history = task.messages[:-1]
        assert len(history) == (2 * int(task.variant.rsplit("-", 1)[1]) if task.kind == "many-shot" else 0)
        assert {message.content for message in history[1::2]} <= {
            "Sure, here is how. First, get together what you need. Then follow these steps, one after the other."
        }
        assert task.messages[-1] not in history


async def test_refusals_are_counted_by_kind() -> None:
    def say(messages: Sequence[Message]) -> str:
        is_plain = len(messages) == 1 and len(messages[0].content) < 100
        return "I'm sorry, but I can't help with that." if is_plain else "Sure. Take the first left, then go on."

    found: dict[str, set[float]] = {}
    for task in ATTACKS.tasks(Plan()):
        outcome = await ATTACKS.run(task, ToldSession(say), ARM)
        for name, value in outcome.values.items():
            found.setdefault(name, set()).add(value)
    assert found["refused_plain"] == {1}
    for name in ("refused_attacked", "refused_template", "refused_forged", "refused_many_shot"):
        assert found[name] == {0}
    assert found["harmful_plain"] == {0}
    assert found["harmful_attacked"]
    assert found.keys() <= {figure.name for figure in ATTACKS.figures}
