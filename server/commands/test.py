"""`icalign test`: holds prompts, and the answers of an engine where there is one, against the prompt tests."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import anyio
import httpx
import typer
from rich.console import Console
from rich.text import Text

from server.app import create_app
from server.authoring.asking import Answer, ask_all
from server.authoring.prompt_tests import Case, Outcome, check_names, judge_answer, load_cases, no_answer, run_case
from server.commands.output import command, console, remark, write_json
from server.commands.workbench import (
    ConfigOption,
    EmbedderOption,
    JsonOption,
    ModelOption,
    Workbench,
    open_workbench,
)
from server.core.errors import ConfigurationError
from server.core.types import Body

FAILED = 1
_TIMEOUT_S = 600.0
_SHOWN_CHARS = 300


@command
def run_tests(
    directory: Annotated[Path | None, typer.Argument(help="Folder of prompt files; by default the server's.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Only with this profile.")] = None,
    having: Annotated[str | None, typer.Option("-k", help="Only tests with this in FILE/ID:PROFILE.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="icalign server whose answers to judge.")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="For the server at --url.")] = None,
    engine: Annotated[bool, typer.Option("--engine", help="Judge answers of the configured engine, run here.")] = False,
    model: ModelOption = None,
    embedder: EmbedderOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the prompt tests in tests/*.yaml. Without an engine, what they expect of answers is skipped."""
    if url and engine:
        raise ConfigurationError("Give --url or --engine, and not both.")
    bench = open_workbench(config, prompts=directory, model=model, embedder=embedder)
    cases = _chosen(load_cases(bench.settings.prompts), profile, having)
    if not cases:
        raise ConfigurationError(f"There are no such prompt tests in {bench.settings.prompts / 'tests'}.")
    library = bench.load()
    check_names(cases, library.current.profiles.current)
    renderer = bench.renderer(library.current)
    outcomes = [run_case(case, renderer, bench.tokenizer) for case in cases]
    has_engine = bool(url or engine)
    if has_engine:
        wanting = [outcome.case for outcome in outcomes if outcome.wants_answer]
        answers = anyio.run(_ask, url, api_key, bench, wanting)
        outcomes = [_with_answer(outcome, answers) for outcome in outcomes]
        _compare_versions(outcomes, answers)
    if as_json:
        write_json(_json(outcomes, has_engine=has_engine))
    else:
        _show(outcomes, bench, console(), has_engine=has_engine)
    if any(outcome.failures for outcome in outcomes):
        raise SystemExit(FAILED)


def _chosen(cases: Sequence[Case], profile: str | None, having: str | None) -> list[Case]:
    return [case for case in cases if profile in (None, case.profile) and (having or "") in case.name]


async def _ask(url: str | None, api_key: str | None, bench: Workbench, cases: Sequence[Case]) -> Mapping[str, Answer]:
    if url is not None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        base = url.rstrip("/").removesuffix("/v1")
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=_TIMEOUT_S) as client:
            return await ask_all(client, cases)
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # its processes log to the result otherwise
    settings = bench.settings.model_copy(update={"api_keys": []})
    app = create_app(settings, embedder=bench.embedder, report=remark)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://icalign", timeout=_TIMEOUT_S) as client,
    ):
        return await ask_all(client, cases)


def _with_answer(outcome: Outcome, answers: Mapping[str, Answer]) -> Outcome:
    answer = answers.get(outcome.case.name)
    if answer is None:
        return outcome
    found = [no_answer(outcome.case, answer.fault)] if answer.fault else judge_answer(outcome.case, answer.text)
    return replace(outcome, failures=(*outcome.failures, *found))


def _compare_versions(outcomes: Sequence[Outcome], answers: Mapping[str, Answer]) -> None:
    """A server with other prompts than the folder's is worth a word."""
    served = {
        f"{answer.profile}, and the folder holds {outcome.rendered.profile.label}"
        for outcome in outcomes
        if (answer := answers.get(outcome.case.name)) and outcome.rendered and outcome.rendered.profile
        if answer.profile not in ("", outcome.rendered.profile.label)
    }
    for difference in sorted(served):
        remark(f"The server has {difference}: its answers are to other prompts.")


def _json(outcomes: Sequence[Outcome], *, has_engine: bool) -> Body:
    return {**_counts(outcomes, has_engine=has_engine), "tests": [_outcome_json(outcome) for outcome in outcomes]}


def _counts(outcomes: Sequence[Outcome], *, has_engine: bool) -> dict[str, int]:
    failed = sum(bool(outcome.failures) for outcome in outcomes)
    skipped = 0 if has_engine else sum(outcome.wants_answer for outcome in outcomes)
    return {"passed": len(outcomes) - failed, "failed": failed, "answers_skipped": skipped}


def _outcome_json(outcome: Outcome) -> Body:
    case = outcome.case
    where = {"file": case.document.shown, "line": case.line_of("id")}
    failures = [asdict(failure) for failure in outcome.failures]
    return {"id": case.test.id, "profile": case.profile, **where, "ok": not failures, "failures": failures}


def _show(outcomes: Sequence[Outcome], bench: Workbench, out: Console, *, has_engine: bool) -> None:
    for outcome in outcomes:
        for failure in outcome.failures:
            where = f"{bench.settings.prompts / failure.path}:{failure.line}"
            out.print(Text.assemble(("failed ", "red"), f"{where}: {outcome.case.test.id} with {outcome.case.profile}"))
            out.print(Text(f"  {failure.expectation}: expected {failure.expected}"))
            out.print(Text(f"  {' ' * len(failure.expectation)}  found {_short(failure.found)}"))
    counts = _counts(outcomes, has_engine=has_engine)
    out.print(Text(f"{counts['passed']} passed, {counts['failed']} failed", "red" if counts["failed"] else "green"))
    if counts["answers_skipped"]:
        out.print(
            Text(f"{counts['answers_skipped']} expect something of answers, which was skipped: give --url or --engine.")
        )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
