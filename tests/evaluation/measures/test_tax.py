from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from server.evaluation.arms import Arm
from server.evaluation.datasets import Label, Message, Prompt, load_prompts
from server.evaluation.measures.base import Answer, LogProb, Plan
from server.evaluation.measures.tax import Tax, final_number, judge_answer

pytestmark = pytest.mark.anyio
OFF = Arm("off", "off", "off")


class Replies:
    """A session that says one thing."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.bodies: list[dict[str, Any]] = []

    async def chat(self, arm: Arm, messages: Sequence[Message], **body: Any) -> Answer:
        self.bodies.append(body)
        return Answer(self.text)

    async def logprob(self, arm: Arm, messages: Sequence[Message], continuation: str) -> LogProb:
        raise NotImplementedError


def maths(reference: str) -> Prompt:
    return Prompt("m", (Message("user", "How many?"),), Label.HARMLESS, "maths", (reference,))


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("4 boxes of 12 are 48, less 3: 45.", "45"),
        ("48 - 3 = 45\n#### 45\nThat is 3 fewer than 48.", "45"),
        ("The answer is 45 jars, of 48.", "45"),
        ("Answer: $1,234.50", "1234.50"),
        ("The final answer is **-7**.", "-7"),
        ("It costs 1,000 euros", "1000"),
        ("One, two, 3,4", "4"),
        ("2.0", "2.0"),
    ],
)
def test_the_final_number_is_found(answer: str, number: str) -> None:
    assert final_number(answer) == Decimal(number)


def test_without_a_number_there_is_none() -> None:
    assert final_number("I cannot tell.") is None
    assert final_number("") is None


def test_numbers_are_compared_by_value() -> None:
    assert judge_answer(maths("45"), "That makes 45.00 in all")["correct"] == 1
    assert judge_answer(maths("45"), "That makes 46 in all")["correct"] == 0
    assert judge_answer(maths("45"), "Who knows?")["correct"] == 0


def test_constraints_count_by_prompt_and_by_constraint() -> None:
    checks: tuple[tuple[str, dict[str, Any]], ...] = (("punctuation:no_comma", {}), ("startend:quotation", {}))
    prompt = Prompt("i", (Message("user", "Write."),), Label.HARMLESS, "instructions", checks=checks)
    assert judge_answer(prompt, "Two words") == {"all_constraints": 0, "constraints": 0.5}
    assert judge_answer(prompt, '"One"') == {"all_constraints": 1, "constraints": 1}
    assert judge_answer(prompt, "") == {"all_constraints": 0, "constraints": 0}


def test_only_sums_and_instructions_are_asked() -> None:
    tasks = Tax().tasks(Plan())
    assert {task.kind for task in tasks} == {"maths", "instructions"}
    assert len(tasks) == len({(task.set, task.id) for task in tasks}) == 8
    assert len(Tax().tasks(Plan(count=3))) == 3
    assert {task.max_tokens for task in Tax().tasks(Plan(max_tokens=9))} == {9}


async def test_a_task_is_asked_and_judged() -> None:
    measure, session = Tax(), Replies("45")
    task = next(task for task in measure.tasks(Plan()) if task.id == "maths-1")
    outcome = await measure.run(task, session, OFF)
    assert outcome.values["correct"] == outcome.values["words"] == 1
    assert "calls" in outcome.values
    assert session.bodies == [{"max_tokens": task.max_tokens}]
    assert set(outcome.values) <= {figure.name for figure in measure.figures}


def test_our_own_sums_have_numbers() -> None:
    rows = [row for row in load_prompts("fixture_tax", None) if row.kind == "maths"]
    assert all(judge_answer(row, f"So it is {row.references[0]}.")["correct"] for row in rows)
