"""`icalign check`: what is wrong or doubtful in a folder of prompt files, with the place and what to do."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from server.authoring.check import Checked, check_folder
from server.commands.output import command, console, write_json
from server.commands.workbench import ConfigOption, EmbedderOption, JsonOption, ModelOption, open_workbench
from server.core.errors import Finding

_COLOURS = {"error": "bold red", "warning": "yellow"}


@command
def check(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="By default the configured prompts.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail too.")] = False,
    window_tokens: Annotated[int | None, typer.Option(help="What the model takes; by default its own limit.")] = None,
    model: ModelOption = None,
    embedder: EmbedderOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check prompt files: exit code 0 if nothing is wrong, 1 on errors, 2 if it could not be done."""
    bench = open_workbench(config, model=model, embedder=embedder, window_tokens=window_tokens)
    folder = directory or bench.settings.prompts
    checked = check_folder(folder, bench.embedder.embed, bench.tokenizer, bench.window_tokens)
    if as_json:
        write_json(
            {
                "version": checked.version,
                "findings": [asdict(finding) for finding in checked.findings],
                "num_errors": checked.num_errors,
                "num_warnings": checked.num_warnings,
            }
        )
    else:
        _show(checked, folder)
    if checked.num_errors or (strict and checked.num_warnings):
        raise SystemExit(1)


def _show(checked: Checked, folder: Path) -> None:
    out = console()
    for _, findings in groupby(checked.findings, lambda finding: finding.path):
        for finding in findings:
            out.print(_lines(finding, folder))
        out.print()
    out.print(_summary(checked, folder))


def _lines(finding: Finding, folder: Path) -> Text:
    where = f"{folder / finding.path}:{finding.line}" if finding.line else str(folder / finding.path)
    subject = f"{finding.field}: " if finding.field else ""
    lines = Text.assemble(
        (where, "cyan"), " ", (finding.severity, _COLOURS[finding.severity]), f" {subject}{finding.message}"
    )
    lines.append(f" [{finding.rule}]", "dim")
    return lines.append(f"\n    {finding.mend}") if finding.mend else lines


def _summary(checked: Checked, folder: Path) -> Text:
    counts = f"{_counted(checked.num_errors, 'error')} and {_counted(checked.num_warnings, 'warning')} in {folder}"
    served = f"; served as version {checked.version}" if checked.version else "; a server would refuse them"
    return Text(counts + served, "green" if not checked.findings else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
