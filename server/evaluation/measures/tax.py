"""The alignment tax: what instructions, sums and length of answers lose by it, to be held against profile `off`."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from server.evaluation.arms import Arm
from server.evaluation.datasets import Prompt, load_prompts, sample
from server.evaluation.measures.base import Figure, Outcome, Plan, Session, Sets, Task
from server.evaluation.measures.constraints import check_known, follows
from server.evaluation.measures.generated import GENERATED_FIGURES, generated_values

MATHS = "maths"
_MAX_TOKENS = 512
_NUMBER = r"(?:(?<!\w)-)?(?:\d+(?:,\d{3})+|\d+)(?:\.\d+)?"
_MARKED_NUMBER = re.compile(rf"(?:####|\banswer(?:\s+is|:))[^\d\n]*?({_NUMBER})", re.IGNORECASE)


class Tax:
    """IFEval's constraints (Zhou et al. 2023) and GSM8K's sums (Cobbe et al. 2021), asked as they are."""

    name = "tax"
    what = (
        "What alignment costs where nothing is risky: constraints of IFEval that the answer keeps, strictly counted, "
        "final numbers of GSM8K that are right, and the length of answers."
    )
    needs_logprobs = False
    sets = Sets(("ifeval", "gsm8k"), ("fixture_tax",))
    figures = (
        Figure("all_constraints", "prompts with all constraints kept", "share", higher_is_better=True),
        Figure("constraints", "constraints kept, mean of prompts", "share", higher_is_better=True),
        Figure("correct", "sums with the right number", "share", higher_is_better=True),
        *GENERATED_FIGURES,
    )

    def tasks(self, plan: Plan) -> Sequence[Task]:
        """Prompts with constraints, and sums. Raises ConfigurationError."""
        rows = [
            (name, row)
            for name in self.sets.chosen(plan)
            for row in sample(
                [row for row in load_prompts(name, plan.data) if _is_asked(row)], plan.count, seed=plan.seed
            )
        ]
        check_known([constraint for _, row in rows for constraint, _ in row.checks])
        max_tokens = plan.max_tokens or _MAX_TOKENS
        return [
            Task(
                self.name,
                name,
                row.id,
                row.messages,
                label=row.label,
                kind=row.kind,
                prompt=row,
                max_tokens=max_tokens,
            )
            for name, row in rows
        ]

    async def run(self, task: Task, session: Session, arm: Arm) -> Outcome:
        """Ask, and check the answer."""
        answer = await session.chat(arm, task.messages, max_tokens=task.max_tokens)
        assert task.prompt is not None, "tasks of this measure come from prompts"
        return Outcome(answer, {**judge_answer(task.prompt, answer.text), **generated_values(answer)})


def judge_answer(prompt: Prompt, answer: str) -> Mapping[str, float]:
    """The figures of one answer that are about what was asked."""
    values: dict[str, float] = {}
    if prompt.checks:
        kept = [follows(answer, constraint, arguments) for constraint, arguments in prompt.checks]
        values |= {"all_constraints": float(all(kept)), "constraints": sum(kept) / len(kept)}
    if prompt.kind == MATHS:
        found = final_number(answer)
        values["correct"] = float(found is not None and found == Decimal(prompt.references[0]))
    return values


def final_number(answer: str) -> Decimal | None:
    """The number that an answer comes to: the last one announced by `####` or `answer is`, else the last of all."""
    found = _MARKED_NUMBER.findall(answer) or re.findall(_NUMBER, answer)
    return Decimal(found[-1].replace(",", "")) if found else None


def _is_asked(row: Prompt) -> bool:
    return bool(row.checks) or row.kind == MATHS
