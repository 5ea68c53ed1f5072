"""The report's plots, by matplotlib, as PNG. What is plotted comes as estimates by arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import TYPE_CHECKING

from server.core.errors import ConfigurationError
from server.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by most colour-blind people (Okabe and Ito 2008); brown stands for black, on which no bar can be seen,
# and grey for yellow, which is too light for lines.
_COLOURS = ("#8c8c8c", "#56b4e9", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#d55e00", "#7a5c48")
_MARKERS = "osD^vPXh"
_DPI = 156
_TITLE_CHARS = 28
_INK, _GRID = "#222222", "#dddddd"
_EDGE = "#888888"


@dataclass(frozen=True)
class Point:
    """An arm's two sides, as shares."""

    arm: str
    answered: Estimate
    refused: Estimate


@dataclass(frozen=True)
class Panel:
    """One figure by arm, as shares. Arms that have none are left out of `estimates`."""

    title: str
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Shift:
    """How far an arm is from its base in one figure, in shares, and whether that is better; None is neither."""

    arm: str
    change: Estimate
    is_better: bool | None


def plot_frontier(points: Sequence[Point]) -> bytes:
    """Harmless answered against harmful refused, a point an arm with crosses of 95 %. The goal is the upper right."""
    figure = _figure(7.8, max(4.9, 0.6 + 0.24 * len(points)))
    axes = figure.add_subplot()
    for place, point in enumerate(points):
        x, y = point.answered, point.refused
        axes.errorbar(
            100 * x.mean,
            100 * y.mean,
            xerr=_bars(x),
            yerr=_bars(y),
            fmt=_MARKERS[(place + place // len(_COLOURS)) % len(_MARKERS)],
            color=_COLOURS[place % len(_COLOURS)],
            markersize=9,
            markeredgecolor="white",
            elinewidth=1.4,
            label=f"{point.arm}  ({100 * x.mean:.0f}, {100 * y.mean:.0f})",
            clip_on=False,
            zorder=3,
        )
    axes.set(
        xlim=(_begin([point.answered for point in points]), 101),
        ylim=(_begin([point.refused for point in points]), 101),
        xlabel="harmless prompts answered, %",
        ylabel="harmful prompts refused, %",
    )
    axes.locator_params(nbins=5, integer=True)
    axes.set_title("further right and further up is better", loc="left", fontsize=10, color="#777777")
    _clear(axes, "both")
    axes.legend(
        title="arm (x, y)", loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9.5, alignment="left"
    )
    return _png(figure)


def plot_ladder(arms: Sequence[str], panels: Sequence[Panel]) -> bytes:
    """A bar an arm with its 95 % interval and its number, the first arm on top, a panel a figure."""
    figure = _figure(9.6, 0.9 + 0.38 * len(arms))
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        for place, arm in enumerate(arms):
            if arm in panel.estimates:
                _draw_bar(axes, place, panel.estimates[arm])
        axes.set(xlim=(0, 122), ylim=(len(arms) - 0.4, -0.6), xticks=range(0, 101, 25), yticks=range(len(arms)))
        axes.set_yticklabels(arms)
        axes.set_title(fill(panel.title, _TITLE_CHARS), fontsize=10, loc="left")
        _clear(axes, "x")
    return _png(figure)


def plot_shifts(shifts: Mapping[str, Sequence[Shift]]) -> bytes:
    """The distance from the base with its 95 % interval, in points, a panel a figure by its title."""
    num_arms = max(len(given) for given in shifts.values())
    figure = _figure(9.6, 1.2 + 0.38 * num_arms)
    panels = figure.subplots(1, len(shifts), sharey=True, squeeze=False)[0]
    arms = list(dict.fromkeys(shift.arm for given in shifts.values() for shift in given))
    for axes, (title, given) in zip(panels, shifts.items(), strict=True):
        for shift in given:
            colour = {None: "#777777", True: "#0072b2", False: "#d55e00"}[shift.is_better]
            axes.errorbar(
                100 * shift.change.mean,
                arms.index(shift.arm),
                xerr=_bars(shift.change),
                fmt="o",
                color=colour,
                capsize=3,
                markersize=7,
            )
        axes.axvline(0, color=_INK, linewidth=1)
        axes.set(ylim=(len(arms) - 0.4, -0.6), yticks=range(len(arms)), xlabel="points")
        axes.set_yticklabels(arms)
        axes.set_title(fill(title, _TITLE_CHARS), fontsize=10, loc="left")
        axes.margins(x=0.15)
        _clear(axes, "x")
    return _png(figure)


def _begin(found: Sequence[Estimate]) -> float:
    """Where an axis of percentages begins so that all intervals are on it: a multiple of 20."""
    return max(0.0, 20.0 * ((100 * min(item.low for item in found) - 2) // 20))


def _draw_bar(axes: "Axes", place: int, found: Estimate) -> None:
    axes.barh(place, 100 * found.mean, height=0.62, color=_COLOURS[place % len(_COLOURS)], zorder=2)
    axes.errorbar(
        100 * found.mean, place, xerr=_bars(found), fmt="none", ecolor=_INK, elinewidth=1.2, capsize=3, zorder=3
    )
    axes.text(100 * found.high + 2, place, f"{100 * found.mean:.0f}", va="center", fontsize=10)


def _bars(found: Estimate) -> list[list[float]]:
    """Below and above the mean, in points, as errorbar wants them; rounding may not make them negative."""
    return [[100 * max(0.0, found.mean - found.low)], [100 * max(0.0, found.high - found.mean)]]


def _figure(width: float, height: float) -> "Figure":
    """Without pyplot, which keeps figures in a state of its own. Raises ConfigurationError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("The report's plots need matplotlib: pip install 'icalign[eval]'.") from error
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _clear(axes: "Axes", grid: str) -> None:
    """Only what is read."""
    axes.grid(visible=True, axis=grid, color=_GRID, linewidth=0.8)  # type: ignore[arg-type]  # a Literal
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(_EDGE)
    axes.tick_params(length=0, pad=6)


def _png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
