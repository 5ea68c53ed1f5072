import numpy as np
import pytest

from server.core.types import Route
from server.retrieval.risk import calibrate, choose_route, is_held_out, score_risk


def test_the_nearer_neighbours_count_more() -> None:
    similarities = np.array([0.9, 0.5, 0.5, 0.1], np.float32)
    near_harmful = score_risk(similarities, np.array([True, False, False, False]), 3)
    near_harmless = score_risk(similarities, np.array([False, True, True, False]), 3)
    assert near_harmful > 0.9
    assert near_harmless == pytest.approx(1 - near_harmful, abs=1e-6)


def test_only_the_nearest_are_asked() -> None:
    similarities = np.array([0.9, 0.8, 0.79], np.float32)
    assert score_risk(similarities, np.array([False, False, True]), 2) == 0.0


def test_an_empty_bank_knows_no_risk() -> None:
    assert score_risk(np.empty(0, np.float32), np.empty(0, np.bool_), 8) == 0.0


def test_the_risk_is_the_share_of_harmless_messages_that_look_less_harmful() -> None:
    harmless = np.linspace(0, 0.99, 99)
    assert calibrate(-0.1, harmless) == 0
    assert calibrate(0.5, harmless) == pytest.approx(0.5, abs=0.01)
    assert calibrate(2, harmless) == pytest.approx(0.99)


def test_of_harmless_messages_no_more_reach_a_threshold_than_it_says() -> None:
    scores = np.random.default_rng(0).beta(0.5, 2, 4000)
    harmless, others = np.sort(scores[:2000]), scores[2000:]
    reached = np.mean([calibrate(score, harmless) >= 0.95 for score in others])
    assert reached == pytest.approx(0.05, abs=0.015)


def test_a_score_that_all_harmless_messages_have_is_no_risk() -> None:
    assert calibrate(0.0, np.zeros(100)) == 0


def test_few_messages_calibrate_nothing() -> None:
    assert calibrate(0.4, np.linspace(0, 1, 49)) == 0.4


def test_an_eighth_is_held_out() -> None:
    assert sum(is_held_out(f"message {number}") for number in range(8000)) == pytest.approx(1000, abs=100)


@pytest.mark.parametrize(
    ("risk", "route"),
    [(0.0, Route.LOW), (0.39, Route.LOW), (0.4, Route.ELEVATED), (0.6, Route.HIGH), (1.0, Route.HIGH)],
)
def test_routes_begin_at_their_thresholds(risk: float, route: Route) -> None:
    assert choose_route(risk, (0.4, 0.6)) is route
