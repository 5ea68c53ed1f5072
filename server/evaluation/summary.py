"""A run in a few lines: the mean of each figure over all sets of its measure, by arm."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.evaluation.measures.base import Figure
from server.evaluation.runs import Run


@dataclass(frozen=True)
class Line:
    """A figure of a measure: its mean by arm; arms that have no such values are left out."""

    measure: str
    figure: Figure
    means: Mapping[str, float]


def summarise(run: Run) -> Sequence[Line]:
    """In the order of the measures and their figures; figures that no row has are left out, failed rows too."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in run.rows.values():
        for name, value in row.values.items():
            found[row.measure, name, row.arm].append(value)
    lines = [
        Line(
            measure.name,
            figure,
            {
                arm.id: float(np.mean(values))
                for arm in run.head.arms
                if (values := found.get((measure.name, figure.name, arm.id)))
            },
        )
        for measure in run.head.measures
        for figure in measure.figures
    ]
    return [line for line in lines if line.means]
