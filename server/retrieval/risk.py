"""How risky a request looks, judged by its labelled neighbours among demonstrations and messages.

The neighbours give a score, and the scores of harmless messages say how rare it is among what is harmless: so a
threshold is the share of harmless requests that it lets through, whatever the bank and the embedder.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from server.core.types import Route

# Measured with the default encoder in full precision on public sets, at the score that 5 % of XSTest's safe prompts
# reach: of harmful ones 0.03, 0.05, 0.07 and 0.1 find 96.8, 96.0, 95.2 and 94.1 %. The smaller, the more a single
# message can mend.
_TEMPERATURE = 0.05

# Of the first byte of a hash: an eighth of all messages.
_HELD_OUT_BELOW = 32
# With fewer, the share of those at or above a score says little.
_MIN_CALIBRATING = 50


def score_risk(similarities: NDArray[np.float32], harmful: NDArray[np.bool_], num_neighbours: int) -> float:
    """The share, 0 to 1, of harmful among the nearest neighbours, the nearer counting more.

    Takes the request's similarity to every labelled message [n] and whether each is harmful [n]. A neighbour weighs
    exp((similarity - nearest) / 0.05): kernel-weighted nearest neighbours (Dudani 1976).
    """
    if len(similarities) == 0:
        return 0.0
    nearest = np.argsort(-similarities, kind="stable")[:num_neighbours]
    weights = np.exp((similarities[nearest] - similarities[nearest[0]]) / _TEMPERATURE)
    return float(weights @ harmful[nearest] / weights.sum())


def is_held_out(text: str) -> bool:
    """Whether the message `text` is one of the eighth that no encoder is fitted to, so that it can calibrate."""
    return hashlib.sha256(text.encode()).digest()[0] < _HELD_OUT_BELOW


def calibrate(score: float, harmless: NDArray[np.float64]) -> float:
    """The share, 0 to 1, of harmless messages that look less harmful than a request with `score`.

    `harmless` has their scores [n], ascending, each found without itself. It is one less the p-value of split conformal
    prediction (Vovk et al. 2005): of requests that are like them, at most a share r reaches 1 - r. With too few of
    them, it is the score itself.
    """
    if len(harmless) < _MIN_CALIBRATING:
        return score
    return float(np.searchsorted(harmless, score) / (len(harmless) + 1))


def choose_route(risk: float, thresholds: tuple[float, float]) -> Route:
    """`thresholds` are where the elevated and the high route begin."""
    elevated, high = thresholds
    if risk >= high:
        return Route.HIGH
    return Route.ELEVATED if risk >= elevated else Route.LOW
