from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.core.types import Order, Reason, Risk
from server.retrieval.selector import POOL_PER_RISK, Record, arrange, select

BENIGN, HARMFUL, LOOKALIKE = Risk.BENIGN, Risk.HARMFUL, Risk.LOOKALIKE


def pick(
    angles: list[float],
    risks: list[Risk] | None = None,
    tokens: list[int] | None = None,
    quotas: Mapping[Risk, int] | None = None,
    record: Record | None = None,
    **settings: float,
) -> list[int]:
    """Choose among unit vectors at `angles` (radians) from the request, in a plane."""
    vectors = np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)
    options = {"count": 2, "budget_tokens": 10_000, "mmr_lambda": 1.0, "min_similarity": -1.0, **settings}
    risks = risks or [BENIGN] * len(angles)
    allowed = quotas if quotas is not None else {BENIGN: 99}
    tokens = tokens or [1] * len(angles)
    return select(vectors[:, 0], vectors, risks, tokens, quotas=allowed, record=record, **options)  # type: ignore[arg-type]


def test_the_most_similar_come_last() -> None:
    assert pick([0.3, 0.1, 0.2, 0.9], count=3) == [0, 2, 1]


def test_the_order_changes_places_only() -> None:
    chosen = pick([0.3, 0.1, 0.2, 0.9], count=3)
    orders = [arrange(chosen, order) for order in (Order.NEAREST_LAST, Order.NEAREST_FIRST, Order.CANONICAL)]
    assert orders == [[0, 2, 1], [1, 2, 0], [0, 1, 2]]


def test_relevance_alone_takes_twins_and_diversity_does_not() -> None:
    angles = [0.10, 0.11, -0.6]
    assert pick(angles) == [1, 0]
    assert pick(angles, mmr_lambda=0.5) == [2, 0]


def test_quotas_hold_per_risk() -> None:
    risks = [HARMFUL, HARMFUL, HARMFUL, LOOKALIKE, BENIGN]
    chosen = pick([0.1, 0.2, 0.3, 0.9, 0.05], risks, quotas={HARMFUL: 2, LOOKALIKE: 1}, count=4)
    assert chosen == [3, 1, 0]


def test_a_demonstration_that_does_not_fit_gives_way_to_one_that_does() -> None:
    assert pick([0.1, 0.2, 0.3], tokens=[60, 50, 40], budget_tokens=100) == [2, 0]


def test_a_floor_of_similarity_keeps_strangers_out() -> None:
    assert pick([0.1, 1.5], min_similarity=0.5) == [0]


@given(
    angles=st.lists(st.floats(-3, 3), min_size=1, max_size=20),
    count=st.integers(0, 8),
    budget=st.integers(0, 30),
    quota=st.integers(0, 5),
    mmr_lambda=st.floats(0, 1),
)
def test_limits_hold_for_any_bank(angles: list[float], count: int, budget: int, quota: int, mmr_lambda: float) -> None:
    tokens = [1 + index % 7 for index in range(len(angles))]
    chosen = pick(
        angles, tokens=tokens, quotas={BENIGN: quota}, count=count, budget_tokens=budget, mmr_lambda=mmr_lambda
    )
    assert len(chosen) == len(set(chosen)) <= min(count, quota)
    assert sum(tokens[index] for index in chosen) <= budget
    similarities = np.cos(np.array(angles, np.float64))[chosen]
    assert (np.diff(similarities) >= -1e-6).all()


def reasons(angles: list[float], **settings: Any) -> list[Reason]:
    record = Record()
    pick(angles, **settings, record=record)
    return [record.reason(index) for index in range(len(angles))]


def test_each_reason_is_told() -> None:
    risks = [HARMFUL, HARMFUL, LOOKALIKE, BENIGN, BENIGN, BENIGN]
    quotas, tokens = {HARMFUL: 1, LOOKALIKE: 1, BENIGN: 5}, [1, 1, 99, 1, 1, 1]
    found = reasons(
        [0.1, 0.2, 0.3, 0.4, 0.5, 1.5],
        risks=risks,
        tokens=tokens,
        quotas=quotas,
        budget_tokens=50,
        min_similarity=0.5,
    )
    assert found[:3] == [Reason.CHOSEN, Reason.QUOTA_SPENT, Reason.OVER_BUDGET]
    assert found[3:] == [Reason.CHOSEN, Reason.ENOUGH, Reason.TOO_FAR]
    assert reasons([0.1, 0.2], risks=[HARMFUL, BENIGN]) == [Reason.NO_QUOTA, Reason.CHOSEN]
    assert reasons([0.1] * (POOL_PER_RISK + 1))[-1] is Reason.OUT_OF_POOL


def test_what_variety_costs_a_place_is_told_with_its_rival() -> None:
    record = Record()
    assert pick([0.10, 0.11, -0.6], mmr_lambda=0.5, record=record) == [2, 0]
    assert (record.reason(1), record.rivals[1]) == (Reason.LESS_VARIED, 2)
    by_quota = Record()
    pick([0.10, 0.11, -0.6], quotas={BENIGN: 2}, count=3, mmr_lambda=0.5, record=by_quota)
    assert (by_quota.reason(1), by_quota.rivals[1]) == (Reason.LESS_VARIED, 2)


def test_a_record_changes_nothing() -> None:
    angles = [0.1, 0.11, -0.6, 0.3, 0.31, 1.0]
    assert pick(angles, mmr_lambda=0.6, count=4, record=Record()) == pick(angles, mmr_lambda=0.6, count=4)
