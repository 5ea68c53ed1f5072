from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.core.types import Risk
from server.retrieval.selector import select

BENIGN, HARMFUL, LOOKALIKE = Risk.BENIGN, Risk.HARMFUL, Risk.LOOKALIKE


def pick(
    angles: list[float],
    risks: list[Risk] | None = None,
    tokens: list[int] | None = None,
    quotas: Mapping[Risk, int] | None = None,
    **settings: float,
) -> list[int]:
    """Choose among unit vectors at `angles` (radians) from the request, in a plane."""
    vectors = np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)
    options = {"count": 2, "budget_tokens": 10_000, "mmr_lambda": 1.0, "min_similarity": -1.0, **settings}
    risks = risks or [BENIGN] * len(angles)
    allowed = quotas if quotas is not None else {BENIGN: 99}
    return select(vectors[:, 0], vectors, risks, tokens or [1] * len(angles), quotas=allowed, **options)  # type: ignore[arg-type]


def test_the_most_similar_come_last() -> None:
    assert pick([0.3, 0.1, 0.2, 0.9], count=3) == [0, 2, 1]


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
