"""The README's figure: the ladder of several runs in one picture, a row an arm, two columns a model.

icalign eval --model gemma-3-270m --enforce-eager --measure frontier --data DIR --out gemma
icalign eval --model smollm2-135m-instruct --enforce-eager --measure frontier --data DIR --out smollm2
python tests/bench/plot_ladder.py gemma smollm2 --out tests/bench/ladder.png
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.evaluation.comparison import Group, Measured
from server.evaluation.datasets import Label
from server.evaluation.measures.base import Figure
from server.evaluation.measures.frontier import Frontier
from server.evaluation.measures.judged import ANSWERED, REFUSED
from server.evaluation.plots import Panel, plot_ladder
from server.evaluation.runs import Run, load_run
from server.evaluation.statistics import estimate

SIDES = ((Label.HARMFUL, REFUSED, "harmful refused, %"), (Label.HARMLESS, ANSWERED, "harmless answered, %"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = [load_run(folder) for folder in options.runs]
    arms = [arm.id for arm in runs[0].head.arms]
    panels = [panel_of(run, arms, *side) for run in runs for side in SIDES]
    options.out.write_bytes(plot_ladder(arms, panels))
    for line in lines_of(arms, panels):
        print(line)


def panel_of(run: Run, arms: list[str], label: Label, figure: Figure, title: str) -> Panel:
    """A figure of all prompts of `label` together, by arm."""
    measured = Measured(row for row in run.rows.values() if row.error is None)
    group = Group(Frontier.name, "", label)
    found = {arm: estimate(measured.values(arm, group, figure.name)) for arm in arms}
    return Panel(f"{run.head.model}: {title}", found)


def lines_of(arms: list[str], panels: list[Panel]) -> Iterator[str]:
    """The same as a table of the README."""
    yield f"| | {' | '.join(panel.title for panel in panels)} |"
    yield f"|---|{'---|' * len(panels)}"
    for arm in arms:
        cells = (panel.estimates[arm] for panel in panels)
        shown = (f"{100 * item.mean:.1f} ({100 * item.low:.1f} to {100 * item.high:.1f})" for item in cells)
        yield f"| `{arm}` | {' | '.join(shown)} |"


if __name__ == "__main__":
    main()
