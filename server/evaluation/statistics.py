"""How sure a measured mean is, and how sure a difference is: every figure that is shown has a 95 % interval.

Values come by (prompt, variant). Variants of one prompt, such as one request in twelve attacks, are alike, so it is
prompts that are drawn anew, never single values (a cluster bootstrap: Davison and Hinkley 1997, section 3.8).
Numbers alone; which of them belong together is the business of comparison.py and report.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Key: TypeAlias = tuple[str, str]
"""A prompt, by a name that is unique over all sets, and its variant."""

Values: TypeAlias = Mapping[Key, float]
"""What was measured, one value a key."""

Z_95 = 1.959963984540054
NUM_DRAWS = 2000
MIN_PROMPTS = 10
"""Fewer tell nothing about a difference."""

_Floats: TypeAlias = NDArray[np.float64]
_Places: TypeAlias = NDArray[np.int32] | NDArray[np.intp]
_MAX_DRAWN = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` values of `num_prompts` prompts, with its 95 % interval. Without values all three are NaN."""

    n: int
    num_prompts: int
    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero: for differences, whether there is one.

        Of a handful of prompts it says nothing: a percentile bootstrap is too narrow then (Hesterberg 2015).
        """
        return self.num_prompts >= MIN_PROMPTS and (self.low > 0 or self.high < 0)


EMPTY = Estimate(0, 0, float("nan"), float("nan"), float("nan"))


def wilson(num_true: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927; recommended for any n by Brown, Cai and DasGupta 2001).

    It stays within 0 and 1, and has a width even where none or all are true. `n` must be above 0.
    """
    share, square = num_true / n, Z_95 * Z_95
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z_95 / (1 + square / n) * float(np.sqrt(share * (1 - share) / n + square / (4 * n * n)))
    low = 0.0 if num_true == 0 else middle - half
    high = 1.0 if num_true == n else middle + half
    return low, high


def estimate(values: Values, *, seed: int = 0, is_share: bool = True) -> Estimate:
    """The mean: for a yes or no a prompt with Wilson's interval, else with a percentile bootstrap over prompts.

    `is_share` is to be false for what is no share, which may happen to be 0 or 1 everywhere.
    """
    if not values:
        return EMPTY
    sums, counts = _by_prompt(values)
    n, num_prompts, mean = int(counts.sum()), len(sums), float(sums.sum() / counts.sum())
    is_binary = is_share and set(values.values()) <= {0.0, 1.0}
    # Where all are alike, a bootstrap has no width; with variants, only as much is known as there are prompts.
    if is_binary and (n == num_prompts or mean in {0.0, 1.0}):
        return Estimate(n, num_prompts, mean, *wilson(mean * num_prompts, num_prompts))
    low, high = _bootstrap(lambda drawn: sums[drawn].sum(1) / counts[drawn].sum(1), num_prompts, seed)
    return Estimate(n, num_prompts, mean, low, high)


def difference(one: Values, other: Values, *, seed: int = 0, is_share: bool = True) -> Estimate:
    """How much higher `one` is than `other`, over the keys that both have: paired, which prompts of any kind allow.

    Where no pair of yes or no differs from the others, the bootstrap has no width; then Wilson's bound on the share
    of prompts that might is taken. For `is_share` see estimate.
    """
    shared = one.keys() & other.keys()
    if not shared:
        return EMPTY
    changes = {key: one[key] - other[key] for key in shared}
    sums, counts = _by_prompt(changes)
    n, num_prompts, mean = int(counts.sum()), len(sums), float(sums.sum() / counts.sum())
    are_binary = is_share and {one[key] for key in shared} | {other[key] for key in shared} <= {0.0, 1.0}
    if are_binary and len(set(changes.values())) == 1:
        _, bound = wilson(0, num_prompts)
        return Estimate(n, num_prompts, mean, max(-1.0, mean - bound), min(1.0, mean + bound))
    low, high = _bootstrap(lambda drawn: sums[drawn].sum(1) / counts[drawn].sum(1), num_prompts, seed)
    return Estimate(n, num_prompts, mean, low, high)


def ratio(one: Values, other: Values, *, seed: int = 0) -> Estimate:
    """The mean of `one` as a share of that of `other`, over the prompts that both have, whatever their variants.

    NaN where the mean of `other` is 0: there is nothing to be a share of.
    """
    prompts = {prompt for prompt, _ in one} & {prompt for prompt, _ in other}
    if not prompts:
        return EMPTY
    above, num_above = _by_prompt({key: value for key, value in one.items() if key[0] in prompts})
    below, num_below = _by_prompt({key: value for key, value in other.items() if key[0] in prompts})

    def quotient(drawn: _Places) -> _Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            dividend: _Floats = above[drawn].sum(1) / num_above[drawn].sum(1)
            divisor: _Floats = below[drawn].sum(1) / num_below[drawn].sum(1)
            return dividend / divisor

    n, num_prompts = int(num_above.sum()), len(prompts)
    if not below.any():
        return Estimate(n, num_prompts, float("nan"), float("nan"), float("nan"))
    low, high = _bootstrap(quotient, num_prompts, seed)
    return Estimate(n, num_prompts, float(quotient(np.arange(num_prompts)[None])[0]), low, high)


def quantile(values: Values, share: float) -> float:
    """The value that `share` of all lie below; NaN without values."""
    return float(np.quantile(list(values.values()), share)) if values else float("nan")


def _by_prompt(values: Values) -> tuple[_Floats, _Floats]:
    """Sum and number of each prompt's values, prompts in the order of their names: the order of keys counts nothing."""
    totals: dict[str, list[float]] = {}
    for key in sorted(values):
        totals.setdefault(key[0], []).append(values[key])
    sums = np.array([sum(found) for found in totals.values()], np.float64)
    return sums, np.array([len(found) for found in totals.values()], np.float64)


def _bootstrap(statistic: Callable[[_Places], _Floats], n: int, seed: int) -> tuple[float, float]:
    """The percentile interval (Efron 1979) of a statistic of `n` prompts.

    `statistic` takes the places of the prompts that are drawn, [draws, n], and gives a value a draw; what is not
    finite is left out.
    """
    chance = np.random.default_rng(seed)
    step = max(1, _MAX_DRAWN // n)
    sizes = [min(step, NUM_DRAWS - first) for first in range(0, NUM_DRAWS, step)]
    found = np.concatenate([statistic(chance.integers(n, size=(size, n), dtype=np.int32)) for size in sizes])
    low, high = np.quantile(found[np.isfinite(found)], (0.025, 0.975))
    return float(low), float(high)
