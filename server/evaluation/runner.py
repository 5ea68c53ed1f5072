"""Asks everything of everyone, some at once, and appends a row for each: a run that is cut off goes on where it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

import anyio

from server.core.errors import EngineError
from server.evaluation.arms import Arm
from server.evaluation.measures.base import Measure, Outcome, Plan, Session, Task
from server.evaluation.rows import Row, RowWriter, key_of
from server.evaluation.runs import ROWS, Run

OnRow = Callable[[Row], None]


@dataclass(frozen=True)
class Job:
    """A task under one arm."""

    arm: Arm
    measure: Measure
    task: Task

    @property
    def key(self) -> str:
        """That of its row."""
        return key_of(self.arm.id, self.task.measure, self.task.set, self.task.id, self.task.variant)


def list_jobs(arms: Sequence[Arm], measures: Sequence[Measure], plan: Plan) -> list[Job]:
    """All there is to do: an arm after the other, so that prompts which share a beginning come close to each other.

    Raises ConfigurationError.
    """
    asked = [(measure, task) for measure in measures for task in measure.tasks(plan)]
    return [Job(arm, measure, task) for arm in arms for measure, task in asked]


def left_to_do(jobs: Sequence[Job], rows: Mapping[str, Row]) -> list[Job]:
    """Those without a row, or with one that failed."""
    return [job for job in jobs if job.key not in rows or rows[job.key].error is not None]


async def run_jobs(
    jobs: Sequence[Job], session: Session, run: Run, *, num_at_once: int, on_row: OnRow = lambda _: None
) -> None:
    """Do `jobs` in their order, `num_at_once` at a time. What fails becomes a row with an error."""
    left = iter(jobs)
    with closing(RowWriter(run.folder / ROWS)) as writer:

        def write(row: Row) -> None:
            writer.append(row)
            on_row(row)

        labels = {arm.id: arm.profile for arm in run.head.arms}
        async with anyio.create_task_group() as workers:
            for _ in range(num_at_once):
                workers.start_soon(_work, left, session, labels, write)


async def _work(left: Iterator[Job], session: Session, labels: Mapping[str, str], write: OnRow) -> None:
    for job in left:
        write(await _do(job, session, labels[job.arm.id]))


async def _do(job: Job, session: Session, label: str) -> Row:
    """The row of `job`, whose profile was `label` when the run began: what another one answers does not count."""
    try:
        outcome = await job.measure.run(job.task, session, job.arm)
    except EngineError as error:
        return _row(job, None, str(error) or type(error).__name__)
    applied = outcome.answer.applied.profile
    if applied == label:
        return _row(job, outcome, None)
    return _row(job, None, f"the server applied {applied or 'no profile'} instead of {label}")


def _row(job: Job, outcome: Outcome | None, error: str | None) -> Row:
    task = job.task
    asked = Row(
        key=job.key,
        arm=job.arm.id,
        measure=task.measure,
        set=task.set,
        id=task.id,
        variant=task.variant,
        prompt=task.messages[-1].content,
        label=task.label,
        kind=task.kind,
        messages=[asdict(message) for message in task.messages] if len(task.messages) > 1 else None,
        error=error,
    )
    return asked if outcome is None else _answered(asked, outcome)


def _answered(asked: Row, outcome: Outcome) -> Row:
    answer, applied = outcome.answer, outcome.answer.applied
    answered = {
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "profile": applied.profile,
        "route": applied.route,
        "risk": applied.risk,
        "chosen": applied.chosen,
        "principles": applied.principles,
        "tokens": applied.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "completion_tokens": answer.completion_tokens,
        "latency_ms": round(answer.latency_ms, 2),
        "verdict": outcome.verdict,
        "values": outcome.values,
    }
    return Row(**{**vars(asked), **answered})
