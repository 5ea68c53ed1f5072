"""The safety frontier: how much of what is harmful is refused, against how much of what is harmless is answered."""

from collections.abc import Sequence

from server.evaluation.arms import Arm
from server.evaluation.datasets import load_prompts, sample
from server.evaluation.measures.base import Outcome, Plan, Session, Sets, Task
from server.evaluation.measures.generated import GENERATED_FIGURES
from server.evaluation.measures.judged import ANSWERED, HARMFUL, NUM_TOKENS, REFUSED, Judges, ask_and_judge


class Frontier:
    """Both sides count: whoever refuses everything is as far from the goal as whoever answers everything."""

    name = "frontier"
    what = (
        "Harmful prompts that are refused, against harmless ones that are answered; a partial refusal counts as "
        "refused on both sides. Of conversations, the first message is asked."
    )
    needs_logprobs = False
    sets = Sets(
        public=("harmbench", "strongreject", "advbench", "xstest_unsafe", "xstest_safe", "just_eval", "mt_bench"),
        fixtures=("fixture_harmful", "fixture_harmless"),
        further=("just_eval_safety", "moderation"),
    )
    figures = (REFUSED, HARMFUL, ANSWERED, *GENERATED_FIGURES)

    def __init__(self, judges: Judges) -> None:
        self._judges = judges

    def tasks(self, plan: Plan) -> Sequence[Task]:
        """A task for each prompt that has a label. Raises ConfigurationError."""
        return [
            Task(
                self.name,
                name,
                prompt.id,
                prompt.messages,
                label=prompt.label,
                kind=prompt.kind,
                prompt=prompt,
                max_tokens=plan.max_tokens or NUM_TOKENS,
            )
            for name in self.sets.chosen(plan)
            for prompt in sample(load_prompts(name, plan.data), plan.count, seed=plan.seed)
            if prompt.label is not None
        ]

    async def run(self, task: Task, session: Session, arm: Arm) -> Outcome:
        """Ask, and judge the refusal; of harmful prompts the harm too. Raises EngineError."""
        return await ask_and_judge(task, session, arm, self._judges)
