"""Picks demonstrations: near the request, unlike each other, within quotas and a token budget."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.core.types import Order, Reason, Risk, Vectors

POOL_PER_RISK = 32
"""So many of the nearest of each risk are enough to choose from, however large the bank."""


@dataclass
class Record:
    """Why `select` chose what it did, by index. What has no reason here was too far from the request.

    `picked` is in the order of picking. `rivals` has, for each that is less varied, the one that was picked instead.
    """

    picked: list[int] = field(default_factory=list)
    reasons: dict[int, Reason] = field(default_factory=dict)
    rivals: dict[int, int] = field(default_factory=dict)

    def reason(self, index: int) -> Reason:
        """Of any demonstration."""
        return Reason.CHOSEN if index in self.picked else self.reasons.get(index, Reason.TOO_FAR)

    def outdone(self, index: int, reason: Reason, rivals: Iterable[int], similarities: NDArray[np.float32]) -> None:
        """Note that others took the place of `index`: for variety, if one of `rivals` is less similar than it."""
        rival = next((i for i in rivals if similarities[i] < similarities[index]), None)
        self.reasons[index] = reason if rival is None else Reason.LESS_VARIED
        if rival is not None:
            self.rivals[index] = rival


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
    record: Record | None = None,
) -> list[int]:
    """Indices of at most `count` of the given candidates, the most similar last.

    The nearest `POOL_PER_RISK` of each risk, in the order of the bank, give the same as the whole bank.

    Maximal marginal relevance (Carbonell and Goldstein 1998): each pick maximises
    `mmr_lambda * similarity - (1 - mmr_lambda) * likeness to what is already picked`, among those whose risk has quota
    left and whose `num_tokens` still fit. All sequences are parallel, one entry per candidate; ties go to the earlier
    one. A `record` is told the reasons.
    """
    left = dict(quotas)
    pool = np.array(_pool(similarities, risks, left, min_similarity, record), np.intp)
    likeness = np.zeros(len(pool), np.float32)
    picked: list[int] = []
    while len(picked) < count:
        fits = np.array([left.get(risks[i], 0) > 0 and num_tokens[i] <= budget_tokens for i in pool], np.bool_)
        if record is not None:
            _note_unfit(record, pool[~fits].tolist(), picked, left, similarities, risks)
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
    if record is not None:
        record.picked = picked
        for index in pool.tolist():
            record.outdone(index, Reason.ENOUGH, picked, similarities)
    return sorted(picked, key=lambda i: (similarities[i], -i))


def arrange(chosen: Sequence[int], order: Order) -> list[int]:
    """What `select` gave, as `order` has it; candidates are numbered in the order of the bank."""
    if order is Order.CANONICAL:
        return sorted(chosen)
    return list(chosen[::-1] if order is Order.NEAREST_FIRST else chosen)


def _note_unfit(
    record: Record,
    unfit: Sequence[int],
    picked: Sequence[int],
    left: Mapping[Risk, int],
    similarities: NDArray[np.float32],
    risks: Sequence[Risk],
) -> None:
    for index in unfit:
        if left[risks[index]] > 0:
            record.reasons[index] = Reason.OVER_BUDGET
        else:
            alike = (i for i in picked if risks[i] == risks[index])
            record.outdone(index, Reason.QUOTA_SPENT, alike, similarities)


def _pool(
    similarities: NDArray[np.float32],
    risks: Sequence[Risk],
    quotas: Mapping[Risk, int],
    min_similarity: float,
    record: Record | None,
) -> list[int]:
    """The nearest few of each risk that has a quota."""
    pool: list[int] = []
    taken = dict.fromkeys(Risk, 0)
    for index in np.argsort(-similarities, kind="stable").tolist():
        if similarities[index] < min_similarity:
            break
        has_quota = quotas.get(risks[index], 0) > 0
        if has_quota and taken[risks[index]] < POOL_PER_RISK:
            taken[risks[index]] += 1
            pool.append(index)
        elif record is not None:
            record.reasons[index] = Reason.OUT_OF_POOL if has_quota else Reason.NO_QUOTA
    return pool
