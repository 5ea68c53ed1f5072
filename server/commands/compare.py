"""`icalign compare`: how two runs of the evaluation differ, over the prompts that both were asked."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from server.commands.output import command, console, remark, write_json
from server.commands.workbench import JsonOption
from server.core.errors import ConfigurationError
from server.core.types import Body
from server.evaluation.comparison import Difference, compare_runs, summary_of, tell_differences
from server.evaluation.report import write_report
from server.evaluation.runs import load_run
from server.evaluation.tables import BETTER, WORSE, Cell, change_cell, estimate_cell

_WIDTH = 160
"""Enough for every column, also where there is no terminal; the table takes what it needs."""

_STYLES = {BETTER: "green", WORSE: "red", "": ""}


@command
def compare(
    before: Annotated[Path, typer.Argument(help="Folder of a run of `icalign eval`.")],
    after: Annotated[Path, typer.Argument(help="Folder of another.")],
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; may be repeated.")] = None,
    by_set: Annotated[bool, typer.Option("--by-set", help="Every figure of every data set.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder to write a report into that begins with the differences.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs, prompt by prompt, with 95 % intervals: arms of the same name, or the only one of each."""
    old, new = load_run(before), load_run(after)
    differences = [item for item in compare_runs(old, new) if not arm or item.arm in arm]
    if not differences:
        raise ConfigurationError(f"arm: the runs do not share {', '.join(arm or ())}.")
    shown = differences if by_set else summary_of(differences)
    told = tell_differences(old, new)
    if as_json:
        write_json({"differs": told, "figures": [_json(item) for item in shown]})
    else:
        out = console()
        out.print(Text(f"{before} → {after}: {'; '.join(told) or 'asked the same'}"))
        out.width = max(out.width, _WIDTH)
        out.print(_table(shown))
        out.print("* over ten prompts or more, and the interval excludes zero")
    if report is not None:
        remark(f"The report is in {write_report(new, report, before=old)}.")


def _table(differences: Sequence[Difference]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("arm", "measure", "prompts", "figure"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "before", "after", "change", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for item in differences:
        unit, change = item.figure.unit, change_cell(item)
        table.add_row(
            item.arm,
            item.group.measure,
            item.group.title,
            item.figure.name.replace("_", " "),
            str(item.change.n),
            estimate_cell(item.before, unit).text,
            estimate_cell(item.after, unit).text,
            Text(_marked(change), _STYLES[change.tone]),
            change.interval,
        )
    return table


def _marked(change: Cell) -> str:
    """Without colour, too, it shows which differences are none of chance."""
    return f"{change.text} *" if change.tone else change.text


def _json(item: Difference) -> Body:
    group = {"measure": item.group.measure, "set": item.group.set or None, "label": item.group.label}
    estimates = {name: asdict(getattr(item, name)) for name in ("before", "after", "change")}
    return {"arm": item.arm, **group, "figure": item.figure.name, **estimates, "is_better": item.is_better}
