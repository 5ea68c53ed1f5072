import pytest

from server.evaluation.judges.agreement import accuracy, area_under_curve, cohen_kappa


def test_kappa_is_agreement_beyond_chance() -> None:
    # 20 of both yes, 15 of both no, 5 and 10 apart: 0.7 agree, 0.5 by chance.
    found = ["yes"] * 25 + ["no"] * 25
    true = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert accuracy(found, true) == pytest.approx(0.7)
    assert cohen_kappa(found, true) == pytest.approx(0.4)
    assert cohen_kappa(found, found) == 1
    assert cohen_kappa(["yes"], ["yes"]) == 1
    assert cohen_kappa(["yes", "yes"], ["yes", "no"]) == 0


def test_the_area_counts_ties_half() -> None:
    assert area_under_curve([3, 2, 1], [True, False, False]) == 1
    assert area_under_curve([1, 2, 3], [True, False, False]) == 0
    assert area_under_curve([1, 1, 1, 1], [True, False, True, False]) == 0.5
    assert area_under_curve([2, 1, 2, 3], [True, False, False, True]) == pytest.approx(3.5 / 4)
