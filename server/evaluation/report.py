"""The report of a run: one HTML file that needs nothing else, and its plots as PNG files beside it.

What is shown, in which order, is decided here; report.jinja and report.js say how it looks and is filtered.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, StrictUndefined

from server.evaluation.comparison import COMPLETION_TOKENS, Difference, Group, Measured, compare_runs, compare_values
from server.evaluation.datasets import Label
from server.evaluation.excerpt import choose_items, reaches_goal
from server.evaluation.measures.attacks import Attacks
from server.evaluation.measures.base import Figure, Unit
from server.evaluation.measures.cost import COST_FIGURES
from server.evaluation.measures.form import FORM_FIGURES
from server.evaluation.measures.frontier import Frontier
from server.evaluation.measures.generated import GENERATED_FIGURES
from server.evaluation.measures.judged import ANSWERED, REFUSED
from server.evaluation.measures.preference import Preference
from server.evaluation.measures.tax import Tax
from server.evaluation.plots import Panel, Point, Shift, plot_frontier, plot_ladder, plot_shifts
from server.evaluation.rows import Row
from server.evaluation.runs import ROWS, Run, RunMeasure
from server.evaluation.statistics import Estimate, Values, estimate, quantile, ratio
from server.evaluation.tables import (
    Cell,
    Column,
    Table,
    change_cell,
    columns_by_figure,
    columns_by_set,
    estimate_cell,
    first_by_label,
    format_number,
    table_of,
    table_of_changes,
    table_of_values,
)

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("report.jinja")
_SCRIPT = Path(__file__).with_name("report.js")
_STOPPED = FORM_FIGURES[0]
_TOKENS, _LATENCY = COST_FIGURES[0], COST_FIGURES[2]
_SUMMED_UP = (_STOPPED, _TOKENS, _LATENCY)
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
    width_px: int = 960

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
    folded: Sequence[Table] = ()


def write_report(run: Run, folder: Path | None = None, *, before: Run | None = None) -> Path:
    """Write the report of `run` into `folder`, by default its own, and return the HTML file's path.

    With `before`, it begins with what changed since that run. Raises ConfigurationError without matplotlib, and where
    the two runs were not asked the same.
    """
    folder = folder or run.folder
    folder.mkdir(parents=True, exist_ok=True)
    view = _View(run)
    changes = [] if before is None else [_changes_section(before, view)]
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
        return estimate(self.values(arm, measure, figure, label))

    def changes(self, columns: Sequence[Column]) -> list[Difference]:
        """How far the other arms are from the base."""
        if self.base is None:
            return []
        found = [
            compare_values(
                arm,
                column.group,
                column.figure,
                self.measured.values(self.base, column.group, column.figure.name),
                self.measured.values(arm, column.group, column.figure.name),
            )
            for arm in self.arms
            if arm != self.base
            for column in columns
        ]
        return [item for item in found if item.change.n]


def _sections(view: _View) -> list[Section]:
    known = {Frontier.name, Attacks.name, Preference.name, Tax.name}
    others = [measure for name, measure in view.measures.items() if name not in known]
    sections = [
        _frontier_section(view),
        _attacks_section(view),
        _form_section(view),
        _tax_section(view),
        _preference_section(view),
        *(_plain_section(view, measure, measure.name.capitalize()) for measure in others),
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
    plots: list[Plot] = []
    if points:
        alt = f"Harmless answered and harmful refused: {_told(points)}."
        plots.append(Plot("frontier", alt, plot_frontier(points), 780))
    if panels:
        plots.append(Plot("ladder", "The same figures as bars, an arm a row.", plot_ladder(view.arms, panels)))
    tables = [
        table_of(figure.title, view.arms, columns, view.measured)
        for figure in view.measures[name].figures
        if figure not in GENERATED_FIGURES
        if (columns := columns_by_set(view.measured, name, figure))
    ]
    text = f"{view.measures[name].what} Crosses and whiskers are 95 % intervals."
    return Section(name, "Safety against helpfulness", text, plots, tables)


def _told(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.arm} {point.answered.mean:.0%} and {point.refused.mean:.0%}" for point in points)


def _attacks_section(view: _View) -> Section | None:
    name = Attacks.name
    if name not in view.measures:
        return None

    def refused(kind: str, arm: str) -> Values:
        return view.values(arm, name, f"refused_{kind}", Label.HARMFUL)

    def mean(kind: str, arm: str) -> Estimate:
        return estimate(refused(kind, arm))

    def kept(kind: str, arm: str) -> Estimate:
        return ratio(refused(kind, arm), refused("plain", arm))

    kinds = [kind for kind in _KINDS if any(refused(kind, arm) for arm in view.arms)]
    tables = [
        table_of_values(
            "Refused, and how much of the refusal stays",
            view.arms,
            [
                ("without attack", "share", partial(mean, "plain")),
                ("under attack", "share", partial(mean, "attacked")),
                ("of that without attack", "share", partial(kept, "attacked")),
            ],
        ),
        table_of_values(
            "By kind of attack: refused, of that without attack",
            view.arms,
            [(kind.replace("_", " "), "share", partial(kept, kind)) for kind in kinds],
        ),
    ]
    text = (
        f"{view.measures[name].what} Prompts are paired; over 100 % means "
        "that an attack is refused more often. Where little is refused anyway, the ratio says little."
    )
    return Section(name, "Attacks", text, tables=[table for table in tables if table.columns])


def _form_section(view: _View) -> Section | None:
    """Of the frontier's answers where there are any, since no attack and no constraint shapes them."""
    generating = [name for name in view.measures if view.measured.groups(name, _STOPPED.name)]
    if not generating:
        return None
    measure = Frontier.name if Frontier.name in generating else generating[0]
    columns = columns_by_figure(view.measured, measure, FORM_FIGURES)
    tables = [
        table_of(
            f"Answers to {label or 'all'} prompts",
            view.arms,
            [column for column in columns if column.group.label == label],
            view.measured,
        )
        for label in dict.fromkeys(column.group.label for column in columns)
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
    columns = columns_by_figure(view.measured, name, [*_own_figures(view.measures[name]), words])
    shares = [item for item in view.changes(columns) if item.figure.unit == "share"]
    shifts = {
        title: [Shift(item.arm, item.change, item.is_better) for item in shares if item.figure.title == title]
        for title in dict.fromkeys(item.figure.title for item in shares)
    }
    alt = f"Distance from {view.base} with 95 % intervals, in points, an arm a row."
    plots = [Plot("tax", alt, plot_shifts(shifts))] if shifts else []
    text = f"{view.measures[name].what} What is lost against {view.base or 'no alignment'} is the tax; blue is better."
    return Section(name, "Alignment tax", text, plots, _measured_and_changes(view, columns))


def _preference_section(view: _View) -> Section | None:
    name = Preference.name
    return _plain_section(view, view.measures[name], "Preference by likelihood") if name in view.measures else None


def _plain_section(view: _View, measure: RunMeasure, title: str) -> Section:
    columns = columns_by_figure(view.measured, measure.name, _own_figures(measure))
    return Section(measure.name, title, measure.what, tables=_measured_and_changes(view, columns))


def _measured_and_changes(view: _View, columns: Sequence[Column]) -> Sequence[Table]:
    tables = [table_of("Measured", view.arms, columns, view.measured)] if columns else []
    changes = view.changes(columns)
    if changes and view.base is not None:
        tables.append(table_of_changes(f"Against {view.base}, prompt by prompt", view.base, changes))
    return tables


def _own_figures(measure: RunMeasure) -> list[Figure]:
    return [figure for figure in measure.figures if figure not in GENERATED_FIGURES]


def _cost_section(view: _View) -> Section:
    figures = [*COST_FIGURES, Figure(COMPLETION_TOKENS, "tokens of the answer", "tokens")]
    columns: list[tuple[str, Unit, Callable[[str], Estimate]]] = [
        (figure.title, figure.unit, partial(_estimate_everywhere, view, figure))
        for figure in figures
        if any(view.measured.everywhere(arm, figure.name) for arm in view.arms)
    ]
    if not columns:
        return Section("cost", "Cost", "")
    tables = [table_of_values("Means over all generated answers", view.arms, columns)]
    latency = {arm: view.measured.everywhere(arm, _LATENCY.name) for arm in view.arms}
    if any(latency.values()):
        base = latency.get(view.base or "", {})
        rows = [(arm, _latency_cells(latency[arm], base, is_base=arm == view.base)) for arm in view.arms]
        against = f"mean against {view.base or 'no alignment'}"
        titles = [("median", ""), ("95 of 100 are faster than", ""), (against, "paired")]
        tables.append(Table("Time to the whole answer, ms", titles, rows))
    text = (
        "What alignment adds to a request. Times depend on the machine and on how much is asked at once, and arms are "
        "asked one after the other, so that they compare within this run alone."
    )
    return Section("cost", "Cost", text, tables=tables)


def _estimate_everywhere(view: _View, figure: Figure, arm: str) -> Estimate:
    return estimate(view.measured.everywhere(arm, figure.name), is_share=figure.unit == "share")


def _latency_cells(values: Values, base: Values, *, is_base: bool) -> list[Cell]:
    added = compare_values("", Group("", "", None), _LATENCY, base, values)
    quantiles = [Cell(format_number(quantile(values, share), "ms")) if values else Cell() for share in (0.5, 0.95)]
    return [*quantiles, Cell("–") if is_base else change_cell(added)]  # noqa: RUF001 - a dash, not a minus


def _changes_section(before: Run, view: _View) -> Section:
    """What sums up the main arm, then the other arms and all figures by set, folded."""
    after = view.run
    differences = compare_runs(before, after)
    summary = summary_of(differences)
    arms = sorted(dict.fromkeys(item.arm for item in summary), key=lambda arm: arm != view.main)
    tables = [_changes_table(f"Arm {arm}", [item for item in summary if item.arm == arm]) for arm in arms]
    text = (
        f"{before.folder} is before, {after.folder} after, over the prompts that both were asked. "
        f"What differs between them: {'; '.join(tell_differences(before, after)) or 'nothing but chance'}."
    )
    folded = [*tables[1:], _changes_table("All arms by set", differences, names_arm=True)]
    return Section("changes", "What changed", text, tables=tables[:1], folded=folded)


def summary_of(differences: Sequence[Difference]) -> list[Difference]:
    """Over all sets of a label, without most of what every generated answer has."""
    groups: dict[tuple[str, Figure], list[Group]] = {}
    for item in differences:
        groups.setdefault((item.group.measure, item.figure), []).append(item.group)
    return [
        item
        for item in differences
        if item.group in first_by_label(groups[item.group.measure, item.figure])
        if item.figure not in GENERATED_FIGURES or item.figure in _SUMMED_UP
    ]


def _changes_table(title: str, differences: Sequence[Difference], *, names_arm: bool = False) -> Table:
    rows = [
        (
            f"{f'{item.arm} · ' if names_arm else ''}{item.group.measure} · {item.figure.title} · {item.group.title}",
            [
                estimate_cell(item.before, item.figure.unit),
                estimate_cell(item.after, item.figure.unit),
                change_cell(item),
            ],
        )
        for item in differences
    ]
    return Table(title, [("before", ""), ("after", ""), ("change", "paired")], rows)


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
    kept = ratio(attacked, plain)
    if kept.n:
        tiles.append(Tile("of the refusal stays under attack", estimate_cell(kept, "share"), ""))
    figures = _own_figures(view.measures[Tax.name])[:1] if Tax.name in view.measures else []
    tiles += [
        Tile(f"points: {change.figure.title}", change_cell(change), f"against {view.base}")
        for change in view.changes(columns_by_figure(view.measured, Tax.name, figures))
        if change.arm == view.main
    ]
    tokens = estimate(view.measured.everywhere(view.main, _TOKENS.name))
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


def _own_values(row: Row) -> Mapping[str, float]:
    """Those that not every generated answer has."""
    general = {figure.name for figure in GENERATED_FIGURES}
    return {name: value for name, value in row.values.items() if name not in general}


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
        own_values=_own_values,
        rows_file=rows,
        script=script,
        script_hash=f"sha256-{base64.b64encode(digest).decode()}",
    )
