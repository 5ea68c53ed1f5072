import sys
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from server.core.errors import ConfigurationError
from server.evaluation.plots import Panel, Point, Shift, plot_frontier, plot_ladder, plot_shifts
from server.evaluation.statistics import Estimate

SURE = Estimate(20, 20, 1.0, 0.84, 1.0)
HALF = Estimate(20, 20, 0.5, 0.3, 0.7)
NONE = Estimate(20, 20, 0.0, 0.0, 0.16)


def ink(png: bytes) -> float:
    """The share of what is not white: every plot has some, and leaves most empty."""
    return float(np.mean(imread(BytesIO(png))[:, :, :3].min(axis=2) < 0.99))


@pytest.mark.parametrize("num_arms", [1, 5, 20])
def test_plots_hold_any_number_of_arms(num_arms: int) -> None:
    arms = [f"budget-{number}-nearest-last" for number in range(num_arms)]
    points = [Point(arm, SURE, (NONE, HALF, SURE)[place % 3]) for place, arm in enumerate(arms)]
    panels = [Panel("refused, %", dict.fromkeys(arms, HALF)), Panel("answered, %", {arms[0]: SURE})]
    shifts = {
        "kept": [Shift(arm, Estimate(9, 9, -0.1, -0.2, 0.0), (None, True, False)[i % 3]) for i, arm in enumerate(arms)]
    }
    pngs = [plot_frontier(points), plot_ladder(arms, panels), plot_shifts(shifts)]
    assert all(0.01 < ink(png) < 0.5 for png in pngs)


def test_a_plot_is_the_same_again() -> None:
    points = [Point("off", SURE, NONE)]
    assert plot_frontier(points) == plot_frontier(points)


def test_bars_show_their_share() -> None:
    small, large = (plot_ladder(["ours"], [Panel("refused, %", {"ours": item})]) for item in (NONE, SURE))
    assert ink(large) > ink(small) + 0.1


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"matplotlib: pip install 'icalign\[eval\]'"):
        plot_frontier([Point("off", SURE, NONE)])
