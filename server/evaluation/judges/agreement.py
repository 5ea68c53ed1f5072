"""How far a judge agrees with people."""

from collections.abc import Sequence

import numpy as np


def accuracy(found: Sequence[str], true: Sequence[str]) -> float:
    """The share of verdicts that are right."""
    return float(np.mean(np.array(found) == np.array(true)))


def cohen_kappa(found: Sequence[str], true: Sequence[str]) -> float:
    """Agreement beyond chance (Cohen 1960): 1 is perfect, 0 what chance gives. 1 where both say one thing only."""
    one, other = np.array(found), np.array(true)
    by_chance = sum(float(np.mean(one == label) * np.mean(other == label)) for label in {*found, *true})
    return 1.0 if by_chance == 1 else float((np.mean(one == other) - by_chance) / (1 - by_chance))


def area_under_curve(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann-Whitney). Needs one of each."""
    values, truth = np.array(scores), np.array(positive, np.bool_)
    _, ranks, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    num_positive = int(truth.sum())
    above = mean_ranks[ranks[truth]].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * (len(truth) - num_positive)))
