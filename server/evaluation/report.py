"""The report of a run: one HTML file that needs nothing else, and its plots as PNG files beside it.

What is shown, in which order, is decided here; report.jinja and report.js say how it looks and is filtered.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, StrictUndefined

from server.evaluation.comparison import COMPLETION_TOKENS, Difference, Measured, compare_arms, compare_runs
from server.evaluation.datasets import Label
from server.evaluation.excerpt import choose_items, reaches_goal
from server.evaluation.measures.attacks import Attacks
from server.evaluation.measures.base import Figure
from server.evaluation.measures.form import FORM_FIGURES
from server.evaluation.measures.frontier import Frontier
from server.evaluation.measures.generated import GENERATED_FIGURES
from server.evaluation.measures.judged import ANSWERED, REFUSED
from server.evaluation.measures.preference import Preference
from server.evaluation.measures.tax import Tax
from server.evaluation.plots import Panel, Point, Shift, plot_frontier, plot_ladder, plot_shifts
from server.evaluation.runs import ROWS, Run, RunMeasure
from server.evaluation.statistics import Estimate, Values, difference, estimate, quantile, ratio
from server.evaluation.tables import (
    Cell,
    Column,
    Table,
    change_cell,
    columns_by_figure,
    columns_by_set,
    estimate_cell,
    format_number,
    table_of,
    table_of_changes,
    table_of_values,
)

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("report.jinja")
_SCRIPT = Path(__file__).with_name("report.js")
_STOPPED = FORM_FIGURES[0]
_LATENCY, _TOKENS = "latency", "alignment_tokens"
_KINDS = ("template", "forged", "many_shot")
_NUM_ERRORS = 8


@dataclass(frozen=True)
class Tile:
    """A figure that sums the run up."""

    title: str
    cell: Cell
    note: str


@dataclass(frozen=True)
class Plot:
    """A PNG; `alt` says what it shows."""

    name: str
    alt: str
    png: bytes

    @property
    def source(self) -> str:
        """For an image's `src`."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """One question, what answers it, and how to read that."""

    id: str
    title: str
    text: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()


def write_report(run: Run, folder: Path | None = None, *, before: Run | None = None) -> Path:
    """Write the report of `run` into `folder`, by default its own, and return the HTML file's path.

    With `before`, it begins with what changed since that run. Raises ConfigurationError without matplotlib, and where
    the two runs were not asked the same.
    """
    folder = folder or run.folder
    folder.mkdir(parents=True, exist_ok=True)
    view = _View(run)
    changes = [] if before is None else [_changes_section(before, run)]
    sections = [*changes, *_sections(view)]
    for plot in (plot for section in sections for plot in section.plots):
        (folder / f"{plot.name}.png").write_bytes(plot.png)
    path = folder / REPORT
    path.write_text(_render(view, sections), "utf-8")
    return path


class _View:
    """A run, and what all sections ask of it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.measured = Measured(run.rows.values())
        self.arms = [arm.id for arm in run.head.arms]
        self.seed = int(run.head.settings.get("seed") or 0)
        self.measures = {measure.name: measure for measure in run.head.measures}
        off = [arm.id for arm in run.head.arms if arm.profile.partition("@")[0] == "off"]
        self.base = off[0] if off else None
        others = [arm for arm in self.arms if arm != self.base] or self.arms
        self.main = "ours" if "ours" in others else others[-1]

    def values(self, arm: str, measure: str, figure: str, label: str | None = None) -> Values:
        """Over all sets of `label`."""
        groups = [group for group in self.measured.groups(measure, figure) if group.label == label]
        return self.measured.values(arm, groups[0], figure) if groups else {}

    def estimate(self, arm: str, measure: str, figure: str, label: str | None = None) -> Estimate:
        """The mean of those."""
        return estimate(self.values(arm, measure, figure, label), seed=self.seed)

    def changes(self, measure: str, figures: Sequence[Figure]) -> list[Difference]:
        """How far the other arms are from the base, over all sets of a label."""
        if self.base is None:
            return []
        return [
            found
            for arm in self.arms
            if arm != self.base
            for found in compare_arms(self.measured, arm, self.base, {measure: figures})
            if found.group == self.measured.groups(measure, found.figure.name)[0]
        ]


def _sections(view: _View) -> list[Section]:
    known = {Frontier.name, Attacks.name, Preference.name, Tax.name}
    others = [measure for name, measure in view.measures.items() if name not in known]
    sections = [
        _frontier_section(view),
        _attacks_section(view),
        _form_section(view),
        _tax_section(view),
        _preference_section(view),
        *(_other_section(view, measure) for measure in others),
        _cost_section(view),
    ]
    return [section for section in sections if section is not None and (section.tables or section.plots)]


def _frontier_section(view: _View) -> Section | None:
    name = Frontier.name
    if name not in view.measures:
        return None
    refused = {arm: view.estimate(arm, name, REFUSED.name, Label.HARMFUL) for arm in view.arms}
    answered = {arm: view.estimate(arm, name, ANSWERED.name, Label.HARMLESS) for arm in view.arms}
    stopped = {arm: view.estimate(arm, name, _STOPPED.name, Label.HARMLESS) for arm in view.arms}
    points = [Point(arm, answered[arm], refused[arm]) for arm in view.arms if answered[arm].n and refused[arm].n]
    panels = [
        Panel(title, {arm: found for arm, found in estimates.items() if found.n})
        for title, estimates in (
            ("harmful prompts refused, %", refused),
            ("harmless prompts answered, %", answered),
            ("answers to those end by themselves, %", stopped),
        )
        if any(found.n for found in estimates.values())
    ]
    plots = [Plot("frontier", f"Harmless answered and harmful refused: {_told(points)}.", plot_frontier(points))]
    ladder = [Plot("ladder", "The same figures as bars, an arm a row.", plot_ladder(view.arms, panels))]
    tables = [
        table_of(figure.title, view.arms, columns, view.measured, view.seed)
        for figure in view.measures[name].figures
        if figure not in GENERATED_FIGURES
        if (columns := columns_by_set(view.measured, name, figure))
    ]
    text = f"{view.measures[name].what} Crosses and whiskers are 95 % intervals."
    return Section(
        name, "Safety against helpfulness", text, [*(plots if points else []), *(ladder if panels else [])], tables
    )


def _told(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.arm} {point.answered.mean:.0%} and {point.refused.mean:.0%}" for point in points)


def _attacks_section(view: _View) -> Section | None:
    name = Attacks.name
    if name not in view.measures:
        return None

    def refused(arm: str, kind: str) -> Values:
        return view.values(arm, name, f"refused_{kind}", Label.HARMFUL)

    def kept(kind: str) -> Any:
        return lambda arm: ratio(refused(arm, kind), refused(arm, "plain"), seed=view.seed)

    def mean(kind: str) -> Any:
        return lambda arm: estimate(refused(arm, kind), seed=view.seed)

    kinds = [kind for kind in _KINDS if any(refused(arm, kind) for arm in view.arms)]
    shown = {kind: kind.replace("_", " ") for kind in kinds}
    tables = [
        table_of_values(
            "Refused, and how much of the refusal stays",
            view.arms,
            [
                ("without attack", "share", mean("plain")),
                ("under attack", "share", mean("attacked")),
                ("of that without attack", "share", kept("attacked")),
            ],
        ),
        table_of_values(
            "By kind of attack: refused, of that without attack",
            view.arms,
            [(shown[kind], "share", kept(kind)) for kind in kinds],
        ),
    ]
    text = f"{view.measures[name].what} Prompts are paired; over 100 % means that an attack is refused more often."
    return Section(name, "Attacks", text, tables=[table for table in tables if table.columns])


def _form_section(view: _View) -> Section | None:
    """Of the frontier's answers where there are any, since no attack and no constraint shapes them."""
    generating = [name for name in view.measures if view.measured.groups(name, _STOPPED.name)]
    if not generating:
        return None
    measure = Frontier.name if Frontier.name in generating else generating[0]
    labels = dict.fromkeys(group.label for group in view.measured.groups(measure, _STOPPED.name))
    tables = [
        table_of(
            f"Answers to {label or 'all'} prompts",
            view.arms,
            columns_by_figure(view.measured, measure, FORM_FIGURES, label),
            view.measured,
            view.seed,
        )
        for label in labels
    ]
    text = (
        f"Whether answers end by themselves, stay one turn, and do not go round in circles; of measure {measure}. "
        "An answer that is cut off at the limit of tokens has not ended by itself."
    )
    return Section("form", "Form of answers", text, tables=tables)


def _tax_section(view: _View) -> Section | None:
    name = Tax.name
    if name not in view.measures:
        return None
    words = next(figure for figure in FORM_FIGURES if figure.name == "words")
    figures = [*_own_figures(view.measures[name]), words]
    plots, changes = [], view.changes(name, figures)
    shares = [item for item in changes if item.figure.unit == "share"]
    if shares:
        shifts = {
            title: [Shift(item.arm, item.change, item.is_better) for item in shares if item.figure.title == title]
            for title in dict.fromkeys(item.figure.title for item in shares)
        }
        alt = f"Distance from {view.base} with 95 % intervals, in points, an arm a row."
        plots = [Plot("tax", alt, plot_shifts(shifts))]
    text = f"{view.measures[name].what} What is lost against {view.base or 'no alignment'} is the tax; blue is better."
    return Section(name, "Alignment tax", text, plots, _with_changes(view, name, figures, changes))


def _preference_section(view: _View) -> Section | None:
    name = Preference.name
    if name not in view.measures:
        return None
    figures = _own_figures(view.measures[name])
    tables = _with_changes(view, name, figures, view.changes(name, figures))
    return Section(name, "Preference by likelihood", view.measures[name].what, tables=tables)


def _other_section(view: _View, measure: RunMeasure) -> Section:
    figures = _own_figures(measure)
    return Section(
        measure.name, measure.name.capitalize(), measure.what, tables=_with_changes(view, measure.name, figures, [])
    )


def _with_changes(
    view: _View, measure: str, figures: Sequence[Figure], changes: Sequence[Difference]
) -> Sequence[Table]:
    columns: list[Column] = []
    for label in (*Label, None):
        columns += columns_by_figure(view.measured, measure, figures, label)
    tables = [table_of("Measured", view.arms, columns, view.measured, view.seed)] if columns else []
    if changes and view.base is not None:
        tables.append(table_of_changes(f"Against {view.base}, prompt by prompt", view.base, changes))
    return tables


def _own_figures(measure: RunMeasure) -> list[Figure]:
    return [figure for figure in measure.figures if figure not in GENERATED_FIGURES]


def _cost_section(view: _View) -> Section:
    def everywhere(figure: str) -> Any:
        return lambda arm: estimate(view.measured.everywhere(arm, figure), seed=view.seed)

    def added(arm: str) -> Estimate:
        base = view.measured.everywhere(view.base or "", _LATENCY)
        return difference(view.measured.everywhere(arm, _LATENCY), base, seed=view.seed)

    columns: list[Any] = [
        ("tokens of alignment", "tokens", everywhere(_TOKENS)),
        ("of the prompt's tokens cached", "share", everywhere("cached")),
        ("tokens of the answer", "tokens", everywhere(COMPLETION_TOKENS)),
        ("requests", "calls", everywhere("calls")),
        ("choosing and rendering, ms", "ms", everywhere("aligning")),
        ("to the whole answer, ms", "ms", everywhere(_LATENCY)),
        (f"against {view.base}, ms", "ms", added),
    ]
    there = [column for column in columns if any(column[2](arm).n for arm in view.arms)]
    if not there:
        return Section("cost", "Cost", "")
    rows = [(arm, _quantiles(view.measured.everywhere(arm, _LATENCY))) for arm in view.arms]
    tables = [
        table_of_values("Means over all generated answers", view.arms, there),
        Table("Time to the whole answer, ms", [("median", ""), ("95 of 100 are faster than", "")], rows),
    ]
    text = (
        "What alignment adds to a request. Times depend on the machine and on how much is asked at once, and arms are "
        "asked one after the other, so that they compare within this run alone."
    )
    return Section("cost", "Cost", text, tables=tables)


def _quantiles(values: Values) -> list[Cell]:
    return [Cell(format_number(quantile(values, share), "ms")) if values else Cell() for share in (0.5, 0.95)]


def _changes_section(before: Run, after: Run) -> Section:
    differences = compare_runs(before, after)
    rows = [
        (
            f"{item.arm} · {item.group.measure} · {item.group.title} · {item.figure.title}",
            [
                estimate_cell(item.before, item.figure.unit),
                estimate_cell(item.after, item.figure.unit),
                change_cell(item),
            ],
        )
        for item in differences
    ]
    columns = [("before", ""), ("after", ""), ("change", "paired")]
    text = (
        f"{before.folder} is before, {after.folder} after, over the prompts that both were asked. "
        f"What differs between them: {'; '.join(tell_differences(before, after)) or 'nothing but chance'}."
    )
    return Section("changes", "What changed", text, tables=[Table("Figures of both runs", columns, rows)])


def tell_differences(before: Run, after: Run) -> list[str]:
    """What two runs were asked otherwise, in words."""
    one, other = before.head, after.head
    found = [
        f"{name} {getattr(one, name)} → {getattr(other, name)}"
        for name in ("model", "icalign", "embedder")
        if getattr(one, name) != getattr(other, name)
    ]
    names = dict.fromkeys((*one.settings, *other.settings))
    found += [
        f"{name} {one.settings.get(name)} → {other.settings.get(name)}"
        for name in names
        if one.settings.get(name) != other.settings.get(name)
    ]
    profiles = {arm.id: arm.profile for arm in one.arms}
    return found + [
        f"arm {arm.id} {profiles[arm.id]} → {arm.profile}"
        for arm in other.arms
        if profiles.get(arm.id, arm.profile) != arm.profile
    ]


def _tiles(view: _View) -> list[Tile]:
    """What a reader wants to know first, of the main arm and the base."""
    wanted: list[tuple[str, str, str, str | None]] = [
        ("harmful prompts refused", Frontier.name, REFUSED.name, Label.HARMFUL),
        ("harmless prompts answered", Frontier.name, ANSWERED.name, Label.HARMLESS),
        ("of answers to them end by themselves", Frontier.name, _STOPPED.name, Label.HARMLESS),
    ]
    tiles = []
    for title, measure, figure, label in wanted:
        found = view.estimate(view.main, measure, figure, label)
        base = view.estimate(view.base, measure, figure, label) if view.base else None
        if found.n:
            note = f"{view.base}: {format_number(base.mean, 'share')}" if base is not None and base.n else ""
            tiles.append(Tile(title, estimate_cell(found, "share"), note))
    attacked, plain = (
        view.values(view.main, Attacks.name, f"refused_{kind}", Label.HARMFUL) for kind in ("attacked", "plain")
    )
    kept = ratio(attacked, plain, seed=view.seed)
    if kept.n:
        tiles.append(Tile("of the refusal stays under attack", estimate_cell(kept, "share"), ""))
    figures = _own_figures(view.measures[Tax.name]) if Tax.name in view.measures else []
    tiles += [
        Tile(f"points: {change.figure.title}", change_cell(change), f"against {view.base}")
        for change in view.changes(Tax.name, figures[:1])
        if change.arm == view.main
    ]
    tokens = estimate(view.measured.everywhere(view.main, _TOKENS), seed=view.seed)
    if tokens.n:
        tiles.append(Tile("tokens of alignment a request", estimate_cell(tokens, "tokens"), ""))
    return tiles


def _errors(view: _View) -> Mapping[str, Any]:
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


def _render(view: _View, sections: Sequence[Section]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["compact"] = lambda value: orjson.dumps(value).decode()
    script = _SCRIPT.read_text("utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    rows = view.run.folder / ROWS
    asked = datetime.fromtimestamp(rows.stat().st_mtime, UTC) if rows.is_file() else None
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        head=view.run.head,
        main=view.main,
        asked=asked.strftime("%Y-%m-%d %H:%M UTC") if asked else "never",
        tiles=_tiles(view),
        sections=sections,
        errors=_errors(view),
        excerpt=choose_items(view.run, view.main),
        goal=reaches_goal,
        rows_file=rows,
        script=script,
        script_hash=f"sha256-{base64.b64encode(digest).decode()}",
    )
