"""How risky a request looks, judged by its labelled neighbours among demonstrations and messages."""

import numpy as np
from numpy.typing import NDArray

from server.core.types import Route

# With 0.15 the area under the curve of harmful against harmless requests is 0.004 to 0.008 larger on public sets. But
# then 63 neighbours at 0.5 outvote a message that is word for word the request, and nobody could mend anything by one.
_TEMPERATURE = 0.1


def score_risk(similarities: NDArray[np.float32], harmful: NDArray[np.bool_], num_neighbours: int) -> float:
    """The share, 0 to 1, of harmful among the nearest neighbours, the nearer counting more.

    Takes the request's similarity to every labelled message [n] and whether each is harmful [n]. A neighbour weighs
    exp((similarity - nearest) / 0.1): kernel-weighted nearest neighbours (Dudani 1976).
    """
    if len(similarities) == 0:
        return 0.0
    nearest = np.argsort(-similarities, kind="stable")[:num_neighbours]
    weights = np.exp((similarities[nearest] - similarities[nearest[0]]) / _TEMPERATURE)
    return float(weights @ harmful[nearest] / weights.sum())


def choose_route(risk: float, thresholds: tuple[float, float]) -> Route:
    """`thresholds` are where the elevated and the high route begin."""
    elevated, high = thresholds
    if risk >= high:
        return Route.HIGH
    return Route.ELEVATED if risk >= elevated else Route.LOW
