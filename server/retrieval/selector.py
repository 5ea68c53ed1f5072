"""Picks demonstrations: near the request, unlike each other, within quotas and a token budget."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from server.core.types import Risk, Vectors

POOL_PER_RISK = 32
"""So many of the nearest of each risk are enough to choose from, however large the bank."""


def select(
    similarities: NDArray[np.float32],
    vectors: Vectors,
    risks: Sequence[Risk],
    num_tokens: Sequence[int],
    *,
    quotas: Mapping[Risk, int],
    count: int,
    budget_tokens: int,
    mmr_lambda: float,
    min_similarity: float,
) -> list[int]:
    """Indices of at most `count` of the given candidates, the most similar last.

    The nearest `POOL_PER_RISK` of each risk, in the order of the bank, give the same as the whole bank.

    Maximal marginal relevance (Carbonell and Goldstein 1998): each pick maximises
    `mmr_lambda * similarity - (1 - mmr_lambda) * likeness to what is already picked`, among those whose risk has quota
    left and whose `num_tokens` still fit. All sequences are parallel, one entry per candidate; ties go to the earlier
    one.
    """
    left = dict(quotas)
    pool = np.array(_pool(similarities, risks, left, min_similarity), np.intp)
    likeness = np.zeros(len(pool), np.float32)
    picked: list[int] = []
    while len(picked) < count:
        fits = np.array([left.get(risks[i], 0) > 0 and num_tokens[i] <= budget_tokens for i in pool], np.bool_)
        pool, likeness = pool[fits], likeness[fits]
        if not len(pool):
            break
        best = int(np.argmax(mmr_lambda * similarities[pool] - (1 - mmr_lambda) * likeness))
        pick = int(pool[best])
        to_pick = vectors[pool] @ vectors[pick]
        likeness = np.maximum(likeness, to_pick) if picked else to_pick
        picked.append(pick)
        pool, likeness = np.delete(pool, best), np.delete(likeness, best)
        left[risks[pick]] -= 1
        budget_tokens -= num_tokens[pick]
    return sorted(picked, key=lambda i: (similarities[i], -i))


def _pool(
    similarities: NDArray[np.float32], risks: Sequence[Risk], quotas: Mapping[Risk, int], min_similarity: float
) -> list[int]:
    """The nearest few of each risk that has a quota."""
    pool: list[int] = []
    taken = dict.fromkeys(Risk, 0)
    for index in np.argsort(-similarities, kind="stable").tolist():
        if similarities[index] < min_similarity:
            break
        if quotas.get(risks[index], 0) > 0 and taken[risks[index]] < POOL_PER_RISK:
            taken[risks[index]] += 1
            pool.append(index)
    return pool
