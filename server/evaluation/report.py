"""The report of a run: one HTML file that needs nothing else, and its plots as PNG files beside it.

What is shown is decided in sections.py; report.jinja and report.js say how it looks and is filtered.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, StrictUndefined

from server.evaluation.excerpt import choose_items, reaches_goal
from server.evaluation.measures.generated import GENERATED_FIGURES
from server.evaluation.rows import Row
from server.evaluation.runs import ROWS, Run
from server.evaluation.sections import Section, View, changes_section, list_sections, list_tiles

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("report.jinja")
_SCRIPT = Path(__file__).with_name("report.js")
_NUM_ERRORS = 8


def write_report(run: Run, folder: Path | None = None, *, before: Run | None = None) -> Path:
    """Write the report of `run` into `folder`, by default its own, and return the HTML file's path.

    With `before`, it begins with what changed since that run. Raises ConfigurationError without matplotlib, and where
    the two runs were not asked the same.
    """
    folder = folder or run.folder
    folder.mkdir(parents=True, exist_ok=True)
    view = View(run)
    changes = [] if before is None else [changes_section(before, view)]
    sections = [*changes, *list_sections(view)]
    for plot in (plot for section in sections for plot in section.plots):
        (folder / f"{plot.name}.png").write_bytes(plot.png)
    path = folder / REPORT
    path.write_text(_render(view, sections), "utf-8")
    return path


def _errors(view: View) -> Mapping[str, Any]:
    failed = [row for row in view.run.rows.values() if row.error is not None]
    by_arm = Counter(row.arm for row in failed)
    causes = Counter(row.error for row in failed)
    expected = sum(sum(measure.sets.values()) for measure in view.run.head.measures) * len(view.arms)
    return {
        "expected": expected,
        "rows": len(view.run.rows),
        "failed": len(failed),
        "by_arm": [(arm, by_arm[arm]) for arm in view.arms if by_arm[arm]],
        "causes": causes.most_common(_NUM_ERRORS),
    }


def _own_values(row: Row) -> Mapping[str, float]:
    """Those that not every generated answer has."""
    general = {figure.name for figure in GENERATED_FIGURES}
    return {name: value for name, value in row.values.items() if name not in general}


def _settings(view: View) -> Mapping[str, str]:
    unset = {"count": "all of each set", "max_tokens": "by measure"}
    return {
        name.replace("_", " "): value
        if isinstance(value, str)
        else _compact(value)
        if value is not None
        else unset.get(name, "none")
        for name, value in view.run.head.settings.items()
    }


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()


def _render(view: View, sections: Sequence[Section]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["compact"] = _compact
    script = _SCRIPT.read_text("utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    rows = view.run.folder / ROWS
    asked = datetime.fromtimestamp(rows.stat().st_mtime, UTC) if rows.is_file() else None
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        head=view.run.head,
        settings=_settings(view),
        main=view.main,
        asked=asked.strftime("%Y-%m-%d %H:%M UTC") if asked else "never",
        tiles=list_tiles(view),
        sections=sections,
        errors=_errors(view),
        excerpt=choose_items(view.run, view.main),
        goal=reaches_goal,
        own_values=_own_values,
        rows_file=rows,
        script=script,
        script_hash=f"sha256-{base64.b64encode(digest).decode()}",
    )
