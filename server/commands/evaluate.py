"""`icalign eval`: measures what alignment does, by asking a server the same under several profiles and ablations."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Annotated

import anyio
import typer
from rich.table import Table

from server.commands.asking import GREETING, ask, one_fault, run_arm, trace_arms
from server.commands.output import command, console, remark, write_json
from server.commands.served import Server, elsewhere, here
from server.commands.workbench import ConfigOption, EmbedderOption, JsonOption, PromptsOption
from server.core.errors import ConfigurationError, EngineError
from server.core.types import Body
from server.evaluation.arms import EMBEDDERS, LADDER, UNSANITISED
from server.evaluation.comparison import Group, Measured
from server.evaluation.judges.harm import HarmJudge
from server.evaluation.judges.refusal import RefusalJudge
from server.evaluation.judges.remote import Aspect, RemoteJudge
from server.evaluation.measures.base import Figure, Measure, Plan
from server.evaluation.measures.generated import GENERATED_FIGURES
from server.evaluation.measures.judged import Judges
from server.evaluation.measures.registry import build_measures
from server.evaluation.report import write_report
from server.evaluation.runner import Job, left_to_do, list_jobs
from server.evaluation.runs import Head, Run, RunMeasure, load_run, open_run
from server.evaluation.tables import format_number
from server.settings import EngineKind, Settings, load_settings

FAILED = 1
_SHOWN_ERRORS = 3


@dataclass(frozen=True)
class _Wanted:
    """What the options ask for."""

    settings: Settings
    plan: Plan
    measures: Sequence[Measure]
    names_measures: bool
    judges: Judges
    profiles: Sequence[str]
    arms: Sequence[str]
    sweep: Path | None
    url: str | None
    api_key: str | None
    folder: Path
    num_at_once: int


@command
def evaluate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was cut off goes on.")] = Path("evaluation"),
    measure: Annotated[list[str] | None, typer.Option(help="Only this measure; may be repeated.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Only this data set; may be repeated.")] = None,
    count: Annotated[int, typer.Option(min=0, help="Prompts of each set, drawn by the seed; 0 takes all.")] = 60,
    seed: Annotated[int, typer.Option(help="What is drawn.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of an answer; by default the measure's.")
    ] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Profile to measure; may be repeated.")] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only {', '.join((*LADDER, *EMBEDDERS, UNSANITISED))}, or NAME=PATCH.yaml for a change of the "
            "profile; may be repeated."
        ),
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="YAML file of changes to try one at a time, `coordinate: {value: PATCH}`.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of public data sets; without it, fixtures are asked.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="icalign server to ask, in place of one run here.")] = None,
    api_key: Annotated[str | None, typer.Option(help="For the server at --url.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Asked at once.")] = 16,
    judge_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server whose model judges.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Model that judges there.")] = None,
    judge_api_key: Annotated[str | None, typer.Option(help="For the server at --judge-url.")] = None,
    report_only: Annotated[Path | None, typer.Option(help="Ask nothing, and show the run in this folder.")] = None,
    prompts: PromptsOption = None,
    model: Annotated[str | None, typer.Option(help="Packaged model, folder or Hugging Face name.")] = None,
    served_name: Annotated[str | None, typer.Option(help="What the engine calls the model.")] = None,
    engine: Annotated[EngineKind | None, typer.Option(help="What runs prompts.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server.")] = None,
    upstream_api_key: Annotated[str | None, typer.Option(help="Better given as ICALIGN_UPSTREAM_API_KEY.")] = None,
    script: Annotated[Path | None, typer.Option(help="Answers of the scripted engine.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder, file or name; by default the model's own.")] = None,
    window_tokens: Annotated[int | None, typer.Option(help="What the model takes, if the engine is silent.")] = None,
    embedder: EmbedderOption = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Where prepared models are kept.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure profiles and their ablations. Options not listed here are handed to vLLM unchanged.

    Exit code 0 once all is asked, 1 where some of it failed: the same command tries that again.
    """
    if report_only is not None:
        _show(load_run(report_only), as_json=as_json)
        return
    flags = {name: value for name, value in context.params.items() if name in Settings.model_fields}
    settings = load_settings({**flags, "engine_args": context.args or None}, config)
    plan = Plan(settings.data, tuple(sets or ()), count or None, seed, max_tokens)
    judges = _judges(judge_url, judge_model, judge_api_key)
    wanted = _Wanted(
        settings=settings,
        plan=plan,
        measures=build_measures(measure or (), judges, plan),
        names_measures=bool(measure),
        judges=judges,
        profiles=profile or (),
        arms=arm or (),
        sweep=sweep,
        url=url,
        api_key=api_key,
        folder=out,
        num_at_once=concurrency,
    )
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # its processes log to the result otherwise
    with one_fault():
        run = anyio.run(_run, wanted)
    _show(run, as_json=as_json)
    if any(row.error for row in run.rows.values()):
        raise SystemExit(FAILED)


def _judges(url: str | None, model: str | None, api_key: str | None) -> Judges:
    if (url is None) != (model is None):
        raise ConfigurationError("Give --judge-url and --judge-model together.")
    if url is None or model is None:
        return Judges(RefusalJudge(), HarmJudge())
    refusal, harm = (RemoteJudge(url, model, aspect, api_key=api_key) for aspect in (Aspect.REFUSAL, Aspect.HARM))
    return Judges(refusal, harm)


async def _run(wanted: _Wanted) -> Run:
    async with _open(wanted) as server:
        measures = await _possible(wanted, server)
        jobs = list_jobs(server.arms, measures, wanted.plan)
        run = open_run(wanted.folder, await _head(wanted, server, measures, jobs))
        left = left_to_do(jobs, run.rows)
        if len(left) < len(jobs):
            remark(f"{len(jobs) - len(left)} of {len(jobs)} are in {wanted.folder} already.")
        await ask(left, server, run, num_at_once=wanted.num_at_once)
    return load_run(wanted.folder)


async def _possible(wanted: _Wanted, server: Server) -> Sequence[Measure]:
    """The measures, without those that the engine cannot serve and that no option names."""
    unsure = [measure for measure in wanted.measures if measure.needs_logprobs and not wanted.names_measures]
    if not unsure:
        return wanted.measures
    try:
        await server.session.logprob(server.arms[0], GREETING, "Hello.")
    except EngineError as error:
        remark(f"Left out: {', '.join(measure.name for measure in unsure)}, since {error}")
        return [measure for measure in wanted.measures if measure not in unsure]
    return wanted.measures


async def _head(wanted: _Wanted, server: Server, measures: Sequence[Measure], jobs: Sequence[Job]) -> Head:
    traces = await trace_arms(server)
    arms = [run_arm(arm, traces[arm.id]) for arm in server.arms]
    own = [traces[arm.id]["embedder"] for arm in server.arms if arm.embedder is None and "embedder" in traces[arm.id]]
    plan, settings = wanted.plan, wanted.settings
    kind = {"url": wanted.url} if wanted.url else {"engine": settings.engine.value, "engine_args": settings.engine_args}
    tasks = [job.task for job in jobs if job.arm.id == server.arms[0].id]
    return Head(
        icalign=version("icalign"),
        model=server.session.model,
        embedder=own[0] if own else "",
        settings={**kind, "count": plan.count, "seed": plan.seed, "max_tokens": plan.max_tokens, "temperature": 0},
        arms=arms,
        measures=[
            RunMeasure(
                measure.name,
                measure.what,
                measure.figures,
                {
                    name: sum((task.measure, task.set) == (measure.name, name) for task in tasks)
                    for name in measure.sets.chosen(plan)
                },
            )
            for measure in measures
        ],
        judges=[wanted.judges.refusal.card, wanted.judges.harm.card],
    )


def _open(wanted: _Wanted) -> AbstractAsyncContextManager[Server]:
    if wanted.url is None:
        return here(wanted.settings, wanted.profiles, wanted.arms, wanted.sweep, wanted.plan.seed)
    if wanted.arms or wanted.sweep:
        raise ConfigurationError(
            "--arm and --sweep change prompt files, which --url cannot: name profiles of that server."
        )
    return elsewhere(wanted.url, wanted.api_key, wanted.profiles)


@dataclass(frozen=True)
class _Line:
    """A figure over all sets of a label: its mean by arm."""

    group: Group
    figure: Figure
    means: Mapping[str, float]


def _lines(run: Run) -> list[_Line]:
    """What sums a run up. Of figures that every generated answer has, those of the first measure's last label do."""
    measured = Measured(run.rows.values())
    lines: list[_Line] = []
    shown: set[Figure] = set()
    for measure in run.head.measures:
        for figure in measure.figures:
            pooled = {group.label: group for group in reversed(measured.groups(measure.name, figure.name))}
            groups = list(reversed(pooled.values()))
            if figure in GENERATED_FIGURES:
                groups = [] if figure in shown else groups[-1:]
                shown.add(figure)
            lines += [_line(run, measured, group, figure) for group in groups]
    return lines


def _line(run: Run, measured: Measured, group: Group, figure: Figure) -> _Line:
    values = {arm.id: measured.values(arm.id, group, figure.name) for arm in run.head.arms}
    return _Line(group, figure, {arm: fmean(found.values()) for arm, found in values.items() if found})


def _show(run: Run, *, as_json: bool) -> None:
    """The figures, then the report, so that there is something to see where that cannot be written."""
    lines = _lines(run)
    failed = [row for row in run.rows.values() if row.error]
    if as_json:
        write_json(
            {
                "folder": str(run.folder),
                "rows": len(run.rows),
                "failed": len(failed),
                "figures": [_line_json(line) for line in lines],
            }
        )
    else:
        console().print(_table(run, lines))
    for row in failed[:_SHOWN_ERRORS]:
        remark(f"{row.key} failed: {row.error}")
    if failed:
        remark(f"{len(failed)} of {len(run.rows)} failed; the same command tries them again.")
    remark(f"The report is {write_report(run)}.")


def _line_json(line: _Line) -> Body:
    return {**asdict(line.group), "set": line.group.title, "figure": line.figure.name, "means": line.means}


def _table(run: Run, lines: Sequence[_Line]) -> Table:
    table = Table(
        title=f"{run.head.model}: {len(run.rows)} rows in {run.folder}",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for name in ("measure", "prompts", "figure"):
        table.add_column(name, no_wrap=True)
    for arm in run.head.arms:
        table.add_column(arm.id, justify="right", no_wrap=True)
    for line in lines:
        found = [line.means.get(arm.id) for arm in run.head.arms]
        means = ("" if mean is None else format_number(mean, line.figure.unit) for mean in found)
        table.add_row(line.group.measure, line.group.label or "", line.figure.name.replace("_", " "), *means)
    return table
