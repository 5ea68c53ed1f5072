import numpy as np
import pytest

from server.core.types import Route
from server.retrieval.risk import choose_route, score_risk


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


@pytest.mark.parametrize(
    ("risk", "route"),
    [(0.0, Route.LOW), (0.39, Route.LOW), (0.4, Route.ELEVATED), (0.6, Route.HIGH), (1.0, Route.HIGH)],
)
def test_routes_begin_at_their_thresholds(risk: float, route: Route) -> None:
    assert choose_route(risk, (0.4, 0.6)) is route
