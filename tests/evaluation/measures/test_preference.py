import math
from collections.abc import Sequence
from typing import Any

import pytest

from server.evaluation.arms import Arm
from server.evaluation.datasets import Message, Prompt
from server.evaluation.measures.base import Answer, Applied, LogProb, Plan
from server.evaluation.measures.preference import Preference, judge_likelihoods

pytestmark = pytest.mark.anyio


class Likelihoods:
    """A session that holds what is long for unlikely."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def chat(self, arm: Arm, messages: Sequence[Message], **body: Any) -> Answer:
        raise NotImplementedError

    async def logprob(self, arm: Arm, messages: Sequence[Message], continuation: str) -> LogProb:
        self.asked.append((messages[-1].content, continuation))
        return LogProb(-float(len(continuation)), len(continuation.split()), Applied("p@1"), latency_ms=2.0)


def prompt(kind: str) -> Prompt:
    return Prompt("1", (Message("user", "Why?"),), None, kind, ("good",), ("bad",))


def test_a_pair_is_compared_whole_and_by_token() -> None:
    found = judge_likelihoods(prompt("preference"), [LogProb(-12, 6)], [LogProb(-9, 3)])
    assert found == {"preferred": 0, "preferred_by_token": 1, "margin": 1}
    even = judge_likelihoods(prompt("preference"), [LogProb(-9, 3)], [LogProb(-9, 3)])
    assert even == {"preferred": 0, "preferred_by_token": 0, "margin": 0}


def test_choices_are_scored_as_published() -> None:
    good = [LogProb(math.log(0.3), 1), LogProb(math.log(0.1), 1)]
    bad = [LogProb(math.log(0.2), 1), LogProb(math.log(0.2), 1)]
    assert judge_likelihoods(prompt("truth"), good, bad) == {"mc1": 1, "mc2": pytest.approx(0.5)}
    # Only the best answer, the first, counts for MC1.
    assert judge_likelihoods(prompt("truth"), good[::-1], bad)["mc1"] == 0


def test_long_answers_do_not_vanish() -> None:
    found = judge_likelihoods(prompt("truth"), [LogProb(-2000, 500)], [LogProb(-2000, 500), LogProb(-9000, 9)])
    assert found["mc2"] == pytest.approx(0.5)
    assert judge_likelihoods(prompt("truth"), [LogProb(-math.inf, 1)], [LogProb(-5, 1)])["mc2"] == 0


async def test_every_answer_is_asked_for_after_its_conversation() -> None:
    measure, session = Preference(), Likelihoods()
    tasks = measure.tasks(Plan())
    assert {(task.set, task.kind) for task in tasks} == {("fixture_preference", "preference"), ("fixture_tax", "truth")}
    assert len(tasks) == 12 + 4
    truth = next(task for task in tasks if task.id == "truth-1")
    outcome = await measure.run(truth, session, Arm("ours", "ours", "default"))
    assert truth.prompt is not None
    answers = [*truth.prompt.references, *truth.prompt.rejected]
    assert session.asked == [("Does hair grow thicker after it is shaved?", answer) for answer in answers]
    assert outcome.answer == Answer("", applied=Applied("p@1"), latency_ms=8.0, num_calls=4)
    assert set(outcome.values) == {"mc1", "mc2"}
    assert set(outcome.values) <= {figure.name for figure in measure.figures}
