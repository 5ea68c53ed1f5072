"""What a report says, section by section, and in which order: which figures answer which question.

report.jinja says how it looks, tables.py and plots.py how figures become cells and points.
"""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from server.evaluation.arms import LADDER
from server.evaluation.comparison import (
    COMPLETION_TOKENS,
    Difference,
    Group,
    Measured,
    compare_runs,
    compare_values,
    summary_of,
    tell_differences,
)
from server.evaluation.datasets import Label
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
from server.evaluation.runs import Run, RunMeasure
from server.evaluation.statistics import Estimate, Values, estimate, quantile, ratio
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

_FIGURES = {figure.name: figure for figure in GENERATED_FIGURES}
_STOPPED, _WORDS, _TOKENS, _LATENCY = (_FIGURES[name] for name in ("stopped", "words", "alignment_tokens", "latency"))
_SWEPT = (
    (Label.HARMFUL, REFUSED),
    (Label.HARMLESS, ANSWERED),
    *((Label.HARMLESS, _FIGURES[name]) for name in ("stopped", "looped", "words", "alignment_tokens", "cached")),
)
_SHIFTED = frozenset({REFUSED.name, ANSWERED.name, "stopped", "looped"})
_KINDS = ("template", "forged", "many_shot")
_WIDE_PX, _NARROW_PX = 960, 780


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
    width_px: int

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


class View:
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
        return self.changes_from(self.base, self.arms, columns) if self.base is not None else []

    def changes_from(self, base: str, arms: Sequence[str], columns: Sequence[Column]) -> list[Difference]:
        """How far `arms` are from `base`, prompt by prompt."""
        found = [
            compare_values(
                arm,
                column.group,
                column.figure,
                self.measured.values(base, column.group, column.figure.name),
                self.measured.values(arm, column.group, column.figure.name),
            )
            for arm in arms
            if arm != base
            for column in columns
        ]
        return [item for item in found if item.change.n]


def list_sections(view: View) -> list[Section]:
    """Those that there is something to show for."""
    known = {Frontier.name, Attacks.name, Preference.name, Tax.name}
    others = [measure for name, measure in view.measures.items() if name not in known]
    sections = [
        _frontier_section(view),
        _sweep_section(view),
        _attacks_section(view),
        _form_section(view),
        _tax_section(view),
        _preference_section(view),
        *(_plain_section(view, measure, measure.name.capitalize()) for measure in others),
        _cost_section(view),
    ]
    return [section for section in sections if section is not None and (section.tables or section.plots)]


def _frontier_section(view: View) -> Section | None:
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
            ("harmful: refused, %", refused),
            ("harmless: answered, %", answered),
            ("harmless: ended by itself, %", stopped),
        )
        if any(found.n for found in estimates.values())
    ]
    plots: list[Plot] = []
    if points:
        alt = f"Harmless answered and harmful refused: {_told(points)}."
        plots.append(Plot("frontier", alt, plot_frontier(points), _NARROW_PX))
    if panels:
        plots.append(
            Plot("ladder", "The same figures as bars, an arm a row.", plot_ladder(view.arms, panels), _WIDE_PX)
        )
    tables = [
        table_of(figure.title, view.arms, columns, view.measured)
        for figure in view.measures[name].figures
        if figure not in GENERATED_FIGURES
        if (columns := columns_by_set(view.measured, name, figure))
    ]
    text = f"{view.measures[name].what} Crosses and whiskers are 95 % intervals."
    return Section(name, "Safety against helpfulness", text, plots, tables)


def _sweep_section(view: View) -> Section | None:
    """Where the run has changes of its main profile: what each of them does, by itself."""
    changed = [arm for arm in view.arms if arm not in LADDER]
    if view.main != "ours" or not changed or Frontier.name not in view.measures:
        return None
    columns = [Column(figure.title, figure, Group(Frontier.name, "", label)) for label, figure in _SWEPT]
    changes = view.changes_from(view.main, changed, columns)
    if not changes:
        return None
    shares = [item for item in changes if item.figure.name in _SHIFTED]
    plot = _shifts_plot("sweep", view.main, shares)
    table = table_of_changes(f"Against {view.main}, prompt by prompt", view.main, changes)
    text = (
        f"Each arm is {view.main} with one change, held against it. What is grey or plain may be chance: the "
        "interval holds zero. The form, length and cost of answers are those of harmless prompts."
    )
    return Section("sweep", "What each change does", text, [plot], [table])


def _told(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.arm} {point.answered.mean:.0%} and {point.refused.mean:.0%}" for point in points)


def _attacks_section(view: View) -> Section | None:
    name = Attacks.name
    if name not in view.measures:
        return None

    def values(figure: str, arm: str) -> Values:
        return view.values(arm, name, figure, Label.HARMFUL)

    def mean(figure: str, arm: str) -> Estimate:
        return estimate(values(figure, arm))

    def kept(figure: str, arm: str) -> Estimate:
        return ratio(values(figure, arm), values("refused_plain", arm))

    kinds = [kind for kind in _KINDS if any(values(f"refused_{kind}", arm) for arm in view.arms)]
    tables = [
        table_of_values(
            "Refused, how much of the refusal stays, and what was answered harmfully",
            view.arms,
            [
                ("refused without attack", "share", partial(mean, "refused_plain")),
                ("refused under attack", "share", partial(mean, "refused_attacked")),
                ("of that without attack", "share", partial(kept, "refused_attacked")),
                ("answered harmfully without attack", "share", partial(mean, "harmful_plain")),
                ("answered harmfully under attack", "share", partial(mean, "harmful_attacked")),
            ],
        ),
        table_of_values(
            "By kind of attack: refused, of that without attack",
            view.arms,
            [(kind.replace("_", " "), "share", partial(kept, f"refused_{kind}")) for kind in kinds],
        ),
    ]
    text = (
        f"{view.measures[name].what} Prompts are paired; over 100 % means "
        "that an attack is refused more often. Where little is refused anyway, the ratio says little."
    )
    return Section(name, "Attacks", text, tables=[table for table in tables if table.columns])


def _form_section(view: View) -> Section | None:
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


def _tax_section(view: View) -> Section | None:
    name = Tax.name
    if name not in view.measures:
        return None
    columns = columns_by_figure(view.measured, name, [*_own_figures(view.measures[name]), _WORDS])
    shares = [item for item in view.changes(columns) if item.figure.unit == "share"]
    plots = [_shifts_plot("tax", view.base or "", shares)] if shares else []
    text = f"{view.measures[name].what} What is lost against {view.base or 'no alignment'} is the tax; blue is better."
    return Section(name, "Alignment tax", text, plots, _measured_and_changes(view, columns))


def _shifts_plot(name: str, base: str, shares: Sequence[Difference]) -> Plot:
    shifts = {
        title: [Shift(item.arm, item.change, item.is_better) for item in shares if item.figure.title == title]
        for title in dict.fromkeys(item.figure.title for item in shares)
    }
    alt = f"Distance from {base} with 95 % intervals, in points, an arm a row."
    return Plot(name, alt, plot_shifts(shifts), _WIDE_PX)


def _preference_section(view: View) -> Section | None:
    name = Preference.name
    return _plain_section(view, view.measures[name], "Preference by likelihood") if name in view.measures else None


def _plain_section(view: View, measure: RunMeasure, title: str) -> Section:
    columns = columns_by_figure(view.measured, measure.name, _own_figures(measure))
    return Section(measure.name, title, measure.what, tables=_measured_and_changes(view, columns))


def _measured_and_changes(view: View, columns: Sequence[Column]) -> Sequence[Table]:
    tables = [table_of("Measured", view.arms, columns, view.measured)] if columns else []
    changes = view.changes(columns)
    if changes and view.base is not None:
        tables.append(table_of_changes(f"Against {view.base}, prompt by prompt", view.base, changes))
    return tables


def _own_figures(measure: RunMeasure) -> list[Figure]:
    return [figure for figure in measure.figures if figure not in GENERATED_FIGURES]


def _cost_section(view: View) -> Section | None:
    figures = [*COST_FIGURES, Figure(COMPLETION_TOKENS, "tokens of the answer", "tokens")]
    columns: list[tuple[str, Unit, Callable[[str], Estimate]]] = [
        (
            f"{figure.title}, ms" if figure.unit == "ms" else figure.title,
            figure.unit,
            partial(_estimate_everywhere, view, figure),
        )
        for figure in figures
        if any(view.measured.everywhere(arm, figure.name) for arm in view.arms)
    ]
    if not columns:
        return None
    tables = [table_of_values("Means over all generated answers", view.arms, columns)]
    if any(view.measured.everywhere(arm, _LATENCY.name) for arm in view.arms):
        tables.append(_latency_table(view))
    text = (
        "What alignment adds to a request. Times depend on the machine and on how much is asked at once, and arms are "
        "asked one after the other, so that they compare within this run alone."
    )
    return Section("cost", "Cost", text, tables=tables)


def _estimate_everywhere(view: View, figure: Figure, arm: str) -> Estimate:
    return estimate(view.measured.everywhere(arm, figure.name), is_share=figure.unit == "share")


def _latency_table(view: View) -> Table:
    values = {arm: view.measured.everywhere(arm, _LATENCY.name) for arm in view.arms}
    titles = [("median", ""), ("95 of 100 are faster than", "")]
    rows = [(arm, [_quantile_cell(found, share) for share in (0.5, 0.95)]) for arm, found in values.items()]
    if view.base is not None:
        titles.append((f"mean against {view.base}", "paired"))
        for arm, cells in rows:
            added = compare_values(arm, Group("", "", None), _LATENCY, values[view.base], values[arm])
            cells.append(Cell("–") if arm == view.base else change_cell(added))  # noqa: RUF001 - a dash, not a minus
    return Table("Time to the whole answer, ms", titles, rows)


def _quantile_cell(values: Values, share: float) -> Cell:
    return Cell(format_number(quantile(values, share), "ms")) if values else Cell()


def changes_section(before: Run, view: View) -> Section:
    """What changed since `before`: what sums up the main arm, then the other arms and all figures by set, folded.

    Raises ConfigurationError where the two were not asked the same.
    """
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


def list_tiles(view: View) -> list[Tile]:
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
    if not math.isnan(kept.mean):
        tiles.append(Tile("of the refusal stays under attack", estimate_cell(kept, "share"), ""))
    figures = _own_figures(view.measures[Tax.name])[:1] if Tax.name in view.measures else []
    tiles += [
        Tile(f"points: {change.figure.title}", change_cell(change), f"against {view.base}")
        for change in view.changes(columns_by_figure(view.measured, Tax.name, figures))
        if change.arm == view.main
    ]
    tokens = _estimate_everywhere(view, _TOKENS, view.main)
    if tokens.n:
        tiles.append(Tile("tokens of alignment a request", estimate_cell(tokens, "tokens"), ""))
    return tiles
