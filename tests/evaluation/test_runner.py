from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from server.core.errors import EngineUnavailableError
from server.evaluation.arms import Arm
from server.evaluation.datasets import Message
from server.evaluation.measures.base import Figure, Outcome, Plan, Session, Sets, Task
from server.evaluation.rows import Row
from server.evaluation.runner import Job, left_to_do, list_jobs, run_jobs
from server.evaluation.runs import Head, Run, RunArm, open_run
from tests.evaluation.sessions import ToldSession

pytestmark = pytest.mark.anyio
ARMS = [Arm("off", "off", "off"), Arm("ours", "ours", "default")]


@dataclass
class Counting:
    """Asks a few times, and knows how much was asked at once; `broken` prompts fail."""

    num_tasks: int = 6
    broken: frozenset[str] = frozenset()
    at_once: int = 0
    most_at_once: int = 0

    name = "counting"
    what = "counts"
    needs_logprobs = False
    sets = Sets((), ("s",))
    figures = (Figure("answered", "answered", "share", True),)

    def tasks(self, plan: Plan) -> Sequence[Task]:
        prompts = [Message("user", f"prompt {number}") for number in range(self.num_tasks)]
        return [Task(self.name, "s", prompt.content, (prompt,)) for prompt in prompts]

    async def run(self, task: Task, session: Session, arm: Arm) -> Outcome:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.sleep(0.001)
        self.at_once -= 1
        if task.id in self.broken:
            raise EngineUnavailableError("gone")
        return Outcome(await session.chat(arm, task.messages), {"answered": 1.0}, "compliance")


def begin(folder: Path) -> Run:
    arms = [RunArm(arm.id, arm.title, f"{arm.profile}@1") for arm in ARMS]
    return open_run(folder, Head("0.1.0", "m", "e", {}, arms, [], []))


async def run_all(folder: Path, measure: Counting, num_at_once: int = 3) -> tuple[list[Row], Run]:
    run, told = begin(folder), list[Row]()
    jobs = left_to_do(list_jobs(ARMS, [measure], Plan()), run.rows)
    await run_jobs(jobs, ToldSession(lambda _: "Yes."), run, num_at_once=num_at_once, on_row=told.append)
    return told, begin(folder)


async def test_everyone_is_asked_everything_some_at_once(tmp_path: Path) -> None:
    measure = Counting()
    told, run = await run_all(tmp_path, measure)
    assert measure.most_at_once == 3
    assert {row.key: row for row in told}.keys() == run.rows.keys()
    assert len(run.rows) == len(told) == 12
    row = run.rows["ours/counting/s/prompt 3/"]
    assert (row.prompt, row.answer, row.profile, row.verdict) == ("prompt 3", "Yes.", "default@1", "compliance")
    assert row.values == {"answered": 1}
    assert row.messages is None


def test_an_arm_is_asked_after_the_other() -> None:
    jobs = list_jobs(ARMS, [Counting()], Plan())
    assert [job.arm.id for job in jobs] == ["off"] * 6 + ["ours"] * 6
    assert len({job.key for job in jobs}) == 12


async def test_what_fails_becomes_a_row_and_is_tried_again(tmp_path: Path) -> None:
    _, run = await run_all(tmp_path, Counting(broken=frozenset({"prompt 1"})))
    failed = [row for row in run.rows.values() if row.error]
    assert [row.error for row in failed] == ["gone", "gone"]
    assert failed[0].values == {}
    told, run = await run_all(tmp_path, Counting())
    assert {row.id for row in told} == {"prompt 1"}
    assert not any(row.error for row in run.rows.values())
    assert len(run.rows) == 12


async def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    await run_all(tmp_path, Counting(num_tasks=2))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    told, run = await run_all(tmp_path, Counting())
    assert len(told) == 12 - 3
    assert len(run.rows) == 12


async def test_another_profile_than_the_runs_does_not_count(tmp_path: Path) -> None:
    run, told = begin(tmp_path), list[Row]()
    job = Job(Arm("ours", "ours", "changed"), Counting(), Counting().tasks(Plan())[0])
    await run_jobs([job], ToldSession(lambda _: "Yes."), run, num_at_once=1, on_row=told.append)
    assert told[0].error == "the server applied changed@1 instead of default@1"
    assert told[0].values == {}
