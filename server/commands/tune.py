"""`icalign tune`: finds by measurement which settings align a model best, and writes a profile that has them."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.box import SIMPLE
from rich.table import Table

from server.app import default_profile_for
from server.commands.asking import one_fault
from server.commands.output import command, console, remark, write_json
from server.commands.served import Host
from server.commands.tuning import Asker, Wanted, run_measure
from server.commands.workbench import ConfigOption, EmbedderOption, JsonOption, PromptsOption
from server.core.errors import ConfigurationError, EngineError
from server.core.types import Body
from server.evaluation.candidates import Candidate, changes_of, check_space, load_starts
from server.evaluation.datasets import Label
from server.evaluation.held_out import split_tasks, with_histories
from server.evaluation.judges.harm import HarmJudge
from server.evaluation.judges.refusal import RefusalJudge
from server.evaluation.measures.base import Plan
from server.evaluation.measures.judged import Judges
from server.evaluation.measures.registry import build_measures
from server.evaluation.report import write_report
from server.evaluation.rows import Row
from server.evaluation.runs import replace_run
from server.evaluation.search import Effort, Step, choose_start, search
from server.evaluation.search_space import default_space, load_space
from server.evaluation.tuned import Tuned, figure_cells, figures_of, tell_step, tell_tried, write_profile
from server.profiles.schema import SLUG_PATTERN
from server.settings import EngineKind, Settings, load_settings

FAILED = 1
HELD_OUT = "held-out"
PROFILE_FILE = "tuned.yaml"
_WIDTH = 160
"""Enough for every column, also where there is no terminal; a table takes what it needs."""


@command
def tune(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the search; one that was cut off goes on.")] = Path("tuned"),
    profile: Annotated[
        list[str] | None,
        typer.Option(help="Profile to start from; of several, the best, which may differ in rendering."),
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="Of the profile that is written; by default PROFILE-tuned.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="YAML file of what to try, `coordinate: {value: PATCH}`; by default much.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often all coordinates are gone through at most.")] = 1,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Only this data set; may be repeated.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Prompts of each set that every value is asked.")] = 12,
    max_count: Annotated[int, typer.Option(min=1, help="Prompts of each set that the best values are asked.")] = 48,
    held_out: Annotated[
        int, typer.Option(min=1, help="Other prompts of each set, at most half, to measure the result on.")
    ] = 60,
    seed: Annotated[int, typer.Option(help="What is drawn.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of an answer; by default the measure's.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of public data sets; without it, fixtures are asked.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Asked at once.")] = 16,
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
    """Find the settings that align a model best, and write a profile. Options not listed here are handed to vLLM.

    Exit code 0 once all is asked, 1 where some of it failed: the same command tries that again.
    """
    flags = {name: value for name, value in context.params.items() if name in Settings.model_fields}
    settings = load_settings({**flags, "engine_args": context.args or None}, config)
    judges = Judges(RefusalJudge(), HarmJudge())
    plan = Plan(settings.data, tuple(sets or ()), None, seed, max_tokens)
    (measure,) = build_measures(["frontier"], judges, plan)
    split = with_histories(split_tasks(measure.tasks(plan), held_out, seed), held_out)
    split.drawn(count)
    starts = load_starts(settings.prompts, profile or [default_profile_for(settings)])
    wanted = Wanted(
        settings=settings,
        measure=measure,
        judges=judges,
        plan=plan,
        split=split,
        starts=starts,
        spaces={start.profile.id: load_space(space) if space else default_space(start.profile) for start in starts},
        identifier=identifier,
        effort=Effort(min(count, split.size), min(max(count, max_count), split.size)),
        num_rounds=rounds,
        num_held_out=held_out,
        folder=out,
        num_at_once=concurrency,
    )
    _check(wanted)
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # its processes log to the result otherwise
    with one_fault():
        tuned, failed = anyio.run(_run, wanted)
    _show(wanted, tuned, failed, as_json=as_json)
    if failed:
        raise SystemExit(FAILED)


def _check(wanted: Wanted) -> None:
    """All that can be known to be wrong before an engine is started. Raises ConfigurationError."""
    prompts = wanted.settings.prompts
    for start in wanted.starts:
        _check_identifier(wanted.named(start), prompts)
        space = wanted.spaces[start.profile.id]
        check_space(prompts, start, space)
        values = [value for coordinate in space.coordinates for value in coordinate.values]
        if not any(changes_of(value.patch, start.fields) for value in values):
            raise ConfigurationError(f"space: nothing in it changes profile {start.profile.id!r}.")


def _check_identifier(identifier: str, prompts: Path) -> None:
    if not re.fullmatch(SLUG_PATTERN, identifier):
        raise ConfigurationError(f"id: {identifier!r} is no name; take small letters, digits and hyphens.")
    if (prompts / "profiles" / f"{identifier}.yaml").exists():
        raise ConfigurationError(f"id: {prompts} has a profile {identifier!r} already; give another --id.")


async def _run(wanted: Wanted) -> tuple[Tuned, list[Row]]:
    async with Host(wanted.settings) as host, Asker(wanted, host) as asker:
        steps: list[Step] = []

        def on_step(step: Step) -> None:
            steps.append(step)
            remark(tell_step(step))

        start = Candidate(wanted.starts[0])
        if len(wanted.starts) > 1:
            step = await choose_start(wanted.starts, asker, wanted.effort)
            on_step(step)
            start = step.chosen
        space = wanted.spaces[start.start.profile.id]
        await search(start, space, asker, wanted.effort, num_rounds=wanted.num_rounds, on_step=on_step)
        found = steps[-1].chosen if steps else start
        return await _measure(wanted, asker, found, steps), asker.failed


async def _measure(wanted: Wanted, asker: Asker, found: Candidate, steps: Sequence[Step]) -> Tuned:
    """The profiles to start from and what was found, on the held-out prompts. Writes that run, and the profile."""
    identifier = wanted.named(found.start)
    before = [Candidate(start).arm() for start in wanted.starts]
    after = found.arm(identifier) if found.patch else found.arm()
    rows, described = await asker.rows_of([*before, *([after] if found.patch else [])], wanted.split.held_out)
    _check_answered(rows, (before[0].id, after.id))
    sizes = {name: sum(task.set == name for task in wanted.split.held_out) for name in wanted.split.development}
    head = replace(asker.run.head, arms=described, measures=[run_measure(wanted.measure, sizes)])
    run = replace_run(wanted.folder / HELD_OUT, head, rows)
    tuned = Tuned(identifier, found, steps, wanted.effort, run, before[0].id, after.id)
    write_profile(wanted.folder / PROFILE_FILE, tuned)
    return tuned


def _check_answered(rows: Sequence[Row], arms: Sequence[str]) -> None:
    """Raises EngineError where so much failed that there is nothing to compare."""
    answered = {(row.arm, row.label) for row in rows if row.error is None}
    if not answered.issuperset((arm, label) for arm in arms for label in Label):
        faults = [row.error for row in rows if row.error is not None]
        raise EngineError(f"held out: {faults[0]}; the same command goes on from here.")


def _show(wanted: Wanted, tuned: Tuned, failed: Sequence[Row], *, as_json: bool) -> None:
    path = wanted.folder / PROFILE_FILE
    if as_json:
        write_json(_json(path, tuned, len(failed)))
    else:
        out = console()
        out.width = max(out.width, _WIDTH)
        out.print(_search_table(tuned))
        out.print(_figure_table(tuned))
        out.print(str(path))
    for row in failed[:3]:
        remark(f"{row.key} failed: {row.error}")
    if failed:
        remark(f"{len(failed)} failed; the same command tries them again.")
    if not tuned.has_changed:
        remark(f"Nothing was better than profile {tuned.before} as it is.")
    remark(f"The report on the held-out prompts is {write_report(tuned.held_out)}.")
    remark(f"To have the profile: cp {path} {wanted.settings.prompts / 'profiles' / f'{tuned.identifier}.yaml'}")


def _search_table(tuned: Tuned) -> Table:
    table = Table(title="Search", title_justify="left", box=SIMPLE, pad_edge=False)
    for name in ("round", "coordinate", "value", "score", "lead ± standard error, prompts of each set", "in force"):
        table.add_column(name, no_wrap=True)
    for step in tuned.steps:
        for item in step.tried:
            shown = (item.value, f"{100 * item.score:.1f}", tell_tried(item))
            table.add_row(str(step.round), step.coordinate, *shown, "yes" if item.value == step.value else "")
    return table


def _figure_table(tuned: Tuned) -> Table:
    num_prompts = sum(tuned.held_out.head.measures[0].sets.values())
    table = Table(title=f"{num_prompts} held-out prompts", title_justify="left", box=SIMPLE, pad_edge=False)
    for name in ("figure", tuned.before, tuned.after, "change"):
        table.add_column(name, no_wrap=True)
    for item in figures_of(tuned):
        table.add_row(*figure_cells(item, tuned))
    return table


def _json(path: Path, tuned: Tuned, num_failed: int) -> Body:
    candidate = tuned.candidate
    return {
        "profile": {
            "id": tuned.identifier,
            "extends": candidate.start.profile.id,
            "path": str(path),
            "patch": candidate.patch,
        },
        "failed": num_failed,
        "search": [_step_json(step) for step in tuned.steps],
        "held_out": [
            {
                "figure": item.figure.name,
                "label": item.group.label,
                **{name: asdict(getattr(item, name)) for name in ("before", "after", "change")},
            }
            for item in figures_of(tuned)
        ],
    }


def _step_json(step: Step) -> Body:
    tried = [
        {
            "value": item.value,
            "count": item.count,
            "score": item.score,
            "lead": item.lead.mean,
            "error": item.lead.error,
            "patch": item.candidate.patch,
        }
        for item in step.tried
    ]
    return {"round": step.round, "coordinate": step.coordinate, "value": step.value, "tried": tried}
