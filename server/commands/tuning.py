"""What `icalign tune` wants, and how its candidates are asked: over one engine, and nothing twice."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from server.commands.asking import ask, run_arm, trace_arms
from server.commands.output import remark
from server.commands.served import Host, Server
from server.core.errors import EngineError
from server.evaluation.arms import Arm
from server.evaluation.candidates import Candidate, Start
from server.evaluation.held_out import Split
from server.evaluation.measures.base import Measure, Plan, Task
from server.evaluation.measures.judged import Judges
from server.evaluation.rows import Row
from server.evaluation.runner import Job, left_to_do
from server.evaluation.runs import Head, Run, RunArm, RunMeasure, open_run
from server.evaluation.scoring import Answers, answers_of
from server.evaluation.search import Effort
from server.evaluation.search_space import Space
from server.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What the options ask for, found to be sound. `spaces` are by the profile to start from."""

    settings: Settings
    measure: Measure
    judges: Judges
    plan: Plan
    split: Split
    starts: Sequence[Start]
    spaces: Mapping[str, Space]
    identifier: str | None
    effort: Effort
    num_rounds: int
    num_held_out: int
    folder: Path
    num_at_once: int

    def named(self, start: Start) -> str:
        """What the profile is called that comes of `start`."""
        return self.identifier or f"{start.profile.id}-tuned"


class Asker:
    """Asks candidates what they were not asked before, by one server for as long as it knows them all."""

    def __init__(self, wanted: Wanted, host: Host) -> None:
        self._wanted = wanted
        self._host = host
        self._open = AsyncExitStack()
        self._server: Server | None = None
        self._described: Mapping[str, RunArm] = {}
        self._run: Run | None = None
        self._rows: dict[str, Row] = {}
        self._keys: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *fault: Any) -> bool | None:
        return await self._open.__aexit__(*fault)

    @property
    def run(self) -> Run:
        """That of the folder, once something was asked."""
        assert self._run is not None, "nothing was asked"
        return self._run

    @property
    def failed(self) -> list[Row]:
        """Of all that was wanted, what could not be asked."""
        return [row for key, row in self._rows.items() if key in self._keys and row.error is not None]

    async def __call__(self, candidates: Sequence[Candidate], count: int) -> Mapping[str, Answers]:
        """See Ask. What fails for a candidate leaves it out, unless it fails for the first one, in force, too.

        Raises EngineError where that has no answers to go by.
        """
        arms = [candidate.arm() for candidate in candidates]
        rows, _ = await self.rows_of(arms, self._wanted.split.drawn(count))
        by_arm = {arm.id: [row for row in rows if row.arm == arm.id] for arm in arms}
        in_force = candidates[0]
        excused = _failed(by_arm[in_force.id])
        found = {name: answers_of(own) for name, own in by_arm.items()}
        if not (found[in_force.id].refused and found[in_force.id].answered):
            raise EngineError(f"{in_force.title}: {next(iter(excused.values()))}; the same command goes on from here.")
        for candidate in candidates[1:]:
            faults = [fault for key, fault in _failed(by_arm[candidate.id]).items() if key not in excused]
            if faults:
                remark(f"Left out: {candidate.title}, since {faults[0]}")
                del found[candidate.id]
        return found

    async def rows_of(self, arms: Sequence[Arm], tasks: Sequence[Task]) -> tuple[list[Row], list[RunArm]]:
        """What each arm answers to each task, and the arms as they were asked; failures included."""
        server = await self._serve(arms)
        described = [self._described[arm.id] for arm in arms]
        jobs = [Job(arm, self._wanted.measure, task) for arm in arms for task in tasks]
        stage = replace(self.run, head=replace(self.run.head, arms=described))
        asked = await ask(self._left(jobs), server, stage, num_at_once=self._wanted.num_at_once)
        self._rows |= {row.key: row for row in asked}
        self._keys |= {job.key for job in jobs}
        return [self._rows[job.key] for job in jobs], described

    def _left(self, jobs: Sequence[Job]) -> list[Job]:
        """Without those that the very same version of their profile has answered."""
        labels = {name: arm.profile for name, arm in self._described.items()}
        return left_to_do(jobs, {key: row for key, row in self._rows.items() if row.profile == labels.get(row.arm)})

    async def _serve(self, arms: Sequence[Arm]) -> Server:
        if self._server is not None and all(arm in self._server.arms for arm in arms):
            return self._server
        await self._open.aclose()
        self._open = AsyncExitStack()
        self._server = server = await self._open.enter_async_context(self._host.serve(arms))
        traces = await trace_arms(server)
        self._described = {arm.id: run_arm(arm, traces[arm.id]) for arm in arms}
        if self._run is None:
            self._run = open_run(self._wanted.folder, _head(self._wanted, self._host, server))
            self._rows = dict(self._run.rows)
            if self._rows:
                remark(f"{len(self._rows)} answers are in {self._wanted.folder} already.")
        return server


def _failed(rows: Sequence[Row]) -> Mapping[str, str]:
    """What went wrong, by what was asked."""
    return {row.pair_key: row.error for row in rows if row.error is not None}


def _head(wanted: Wanted, host: Host, server: Server) -> Head:
    settings, plan, effort = wanted.settings, wanted.plan, wanted.effort
    return Head(
        icalign=version("icalign"),
        model=server.session.model,
        embedder=host.embedder.name,
        settings={
            "engine": settings.engine.value,
            "engine_args": settings.engine_args,
            "count": effort.first,
            "max_count": effort.most,
            "held_out": wanted.num_held_out,
            "seed": plan.seed,
            "max_tokens": plan.max_tokens,
            "temperature": 0,
            "rounds": wanted.num_rounds,
            "space": {name: space.describe() for name, space in wanted.spaces.items()},
        },
        arms=[RunArm(item.id, f"profile {item.id}", item.label) for item in (start.profile for start in wanted.starts)],
        measures=[run_measure(wanted.measure, {name: len(tasks) for name, tasks in wanted.split.development.items()})],
        judges=[wanted.judges.refusal.card, wanted.judges.harm.card],
    )


def run_measure(measure: Measure, sizes: Mapping[str, int]) -> RunMeasure:
    """`measure` as a run has it that asks so many tasks of each set."""
    return RunMeasure(measure.name, measure.what, measure.figures, sizes)
