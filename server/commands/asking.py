"""How commands ask a server what a run is to ask: with a bar that says how far it is, and with faults as they were."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from server.commands.served import Server
from server.core.types import Body
from server.evaluation.arms import Arm
from server.evaluation.datasets import Message
from server.evaluation.rows import Row
from server.evaluation.runner import Job, run_jobs
from server.evaluation.runs import Run, RunArm

GREETING = (Message("user", "Hello."),)
"""What shows how a server aligns, whatever it is asked."""


async def ask(jobs: Sequence[Job], server: Server, run: Run, *, num_at_once: int) -> list[Row]:
    """Do `jobs`; their rows, those that failed included, are in the folder of `run` too."""
    rows: list[Row] = []
    failed: list[Row] = []
    with _progress() as progress:
        bar = progress.add_task("", total=len(jobs), num_failed=0)

        def on_row(row: Row) -> None:
            rows.append(row)
            failed.extend([row] if row.error else [])
            shown = f"{row.arm} · {row.measure} · {row.set}"
            progress.update(bar, advance=1, description=shown, num_failed=len(failed))

        await run_jobs(jobs, server.session, run, num_at_once=num_at_once, on_row=on_row)
    return rows


async def trace_arms(server: Server) -> Mapping[str, Body]:
    """What the server applies to a greeting, by arm: its profile's version, and how texts are compared."""
    return {arm.id: await server.session.render(arm, GREETING) for arm in server.arms}


def run_arm(arm: Arm, trace: Body) -> RunArm:
    """`arm` as a run has it."""
    return RunArm(arm.id, arm.title, f"{trace['profile']}@{trace['version']}", arm.patch, arm.embedder)


@contextmanager
def one_fault() -> Iterator[None]:
    """What is raised inside is raised as it was, without the groups that task groups wrap it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        fault: BaseException = group
        while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
            (fault,) = fault.exceptions
        raise fault from None


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[num_failed]} failed"),
        TimeRemainingColumn(),
    )
    shown = Console(stderr=True)
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)
