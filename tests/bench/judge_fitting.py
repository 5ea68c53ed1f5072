"""Fits the judges' weights: logistic models with signs given, and one over hashed words. Nothing by chance."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from server.evaluation.judges.harm import NUM_BUCKETS
from server.evaluation.judges.refusal import Logistic

Array = NDArray[np.float64]

_NUM_STEPS = 3000
_NUM_HASHED_STEPS = 150
_NUM_POWER_STEPS = 15


def fit_signed(
    rows: Sequence[Mapping[str, float]], positive: Sequence[bool], *, negative_names: Sequence[str], penalty: float
) -> Logistic:
    """Logistic regression with an L2 penalty, the weights of `negative_names` at most 0 and the others at least 0.

    What a cue speaks for is known; signs that are held keep few rows from finding the opposite. Accelerated projected
    gradient (Beck and Teboulle 2009).
    """
    names = list(rows[0])
    design = np.array([[1.0, *(row[name] for name in names)] for row in rows])
    truth = np.array(positive, float)
    signs = np.array([0, *(-1 if name in negative_names else 1 for name in names)])
    shrinkage = penalty * (signs != 0)
    steepness = np.linalg.norm(design, 2) ** 2 / 4 + penalty
    weights = ahead = np.zeros(len(signs))
    momentum = 1.0
    for _ in range(_NUM_STEPS):
        gradient = design.T @ (_sigmoid(design @ ahead) - truth) + shrinkage * ahead
        moved = ahead - gradient / steepness
        moved = np.where(moved * signs < 0, 0.0, moved)
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / faster * (moved - weights)
        weights, momentum = moved, faster
    return Logistic(float(weights[0]), dict(zip(names, weights[1:].tolist(), strict=True)))


class Hashed:
    """Texts as rows of buckets, each row of unit length."""

    def __init__(self, rows: Sequence[NDArray[np.int64]]) -> None:
        self.num_rows = len(rows)
        self._row = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        self._bucket = np.concatenate(list(rows))
        self._value = np.concatenate([np.full(len(row), 1 / np.sqrt(max(len(row), 1))) for row in rows])

    def times(self, weights: Array) -> Array:
        """A total for each row."""
        return np.bincount(self._row, self._value * weights[self._bucket], self.num_rows).astype(np.float64)

    def transposed_times(self, totals: Array) -> Array:
        """A total for each bucket."""
        return np.bincount(self._bucket, self._value * totals[self._row], NUM_BUCKETS).astype(np.float64)


def fit_hashed(texts: Hashed, positive: Array, used: NDArray[np.bool_], *, penalty: float) -> tuple[Array, float]:
    """Weights of the buckets and a bias, from the rows that are `used`; L2 penalty, accelerated gradient."""
    probe = np.ones(NUM_BUCKETS)
    norm = 0.0
    for _ in range(_NUM_POWER_STEPS):
        probe = texts.transposed_times(texts.times(probe) * used)
        norm = float(np.linalg.norm(probe))
        probe /= norm
    steepness = 1.2 * norm / 4 + penalty
    bias_steepness = used.sum() / 4 + steepness
    weights = ahead = np.zeros(NUM_BUCKETS)
    bias = bias_ahead = 0.0
    momentum = 1.0
    for _ in range(_NUM_HASHED_STEPS):
        errors = used * (_sigmoid(texts.times(ahead) + bias_ahead) - positive)
        moved = ahead - (texts.transposed_times(errors) + penalty * ahead) / steepness
        bias_moved = bias_ahead - float(errors.sum()) / bias_steepness
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / faster * (moved - weights)
        bias_ahead = bias_moved + (momentum - 1) / faster * (bias_moved - bias)
        weights, bias, momentum = moved, bias_moved, faster
    return weights, bias


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))
