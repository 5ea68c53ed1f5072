import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.evaluation.statistics import EMPTY, Values, difference, estimate, quantile, ratio, wilson


def values(*found: float) -> Values:
    """One value a prompt."""
    return {(f"p{place:04}", ""): float(value) for place, value in enumerate(found)}


shares = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)
numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


# Newcombe 1998, table I, method 3.
@pytest.mark.parametrize(
    ("num_true", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_the_published_interval(num_true: int, n: int, low: float, high: float) -> None:
    assert wilson(num_true, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_holds_the_share_within_0_and_1_and_is_symmetric(n: int, share: float) -> None:
    num_true = round(share * n)
    low, high = wilson(num_true, n)
    assert 0 <= low <= num_true / n <= high <= 1
    assert low < high
    assert wilson(n - num_true, n) == pytest.approx((1 - high, 1 - low))


def test_wilson_covers_the_truth_as_often_as_it_says() -> None:
    chance, covered = np.random.default_rng(0), []
    for truth in np.linspace(0.05, 0.95, 19):
        intervals = [wilson(int(k), 50) for k in chance.binomial(50, truth, 300)]
        covered += [low <= truth <= high for low, high in intervals]
    assert 0.94 <= np.mean(covered) <= 0.965


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    found = [estimate(values(*chance.exponential(100, 60))) for _ in range(200)]
    assert 0.89 <= np.mean([item.low <= 100 <= item.high for item in found]) <= 0.98


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    sample = np.random.default_rng(1).normal(5, 2, 400)
    half = 1.96 * sample.std(ddof=1) / 20
    found = estimate(values(*sample))
    assert (found.low, found.high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.02)


def test_a_share_has_wilsons_interval() -> None:
    found = estimate(values(*[1] * 15, *[0] * 133))
    assert (found.n, found.num_prompts) == (148, 148)
    assert found.mean == pytest.approx(15 / 148)
    assert (found.low, found.high) == pytest.approx((0.0624, 0.1605), abs=5e-5)


@settings(max_examples=40)
@given(numbers | shares)
def test_an_interval_lies_within_the_values_and_is_the_same_again(sample: list[float]) -> None:
    found = estimate(values(*sample), seed=3)
    reordered = dict(reversed(list(values(*sample).items())))
    assert found == estimate(reordered, seed=3)
    assert found.low <= found.high
    if not set(sample) <= {0.0, 1.0}:
        slack = 1e-6 * max(map(abs, sample))
        assert min(sample) - slack <= found.low <= found.high <= max(sample) + slack


def test_variants_of_a_prompt_are_not_taken_for_further_prompts() -> None:
    once = values(*[1, 0] * 20)
    repeated = {(prompt, str(variant)): value for (prompt, _), value in once.items() for variant in range(10)}
    one, ten = estimate(once), estimate(repeated)
    assert (ten.n, ten.num_prompts, ten.mean) == (400, 40, one.mean)
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.1)
    certain = estimate(dict.fromkeys(repeated, 1.0))
    assert (certain.low, certain.high) == wilson(40, 40)


@settings(max_examples=40)
@given(numbers)
def test_the_difference_from_itself_is_none(sample: list[float]) -> None:
    found = difference(values(*sample), values(*sample))
    assert found.mean == 0
    assert not found.excludes_zero


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=40))
def test_differences_turn_about(pairs: list[tuple[float, float]]) -> None:
    one, other = values(*(pair[0] for pair in pairs)), values(*(pair[1] for pair in pairs))
    there, back = difference(one, other), difference(other, one)
    assert (there.mean, there.low) == pytest.approx((-back.mean, -back.high), abs=1e-9)


def test_a_shift_of_all_prompts_is_certain_however_much_they_vary() -> None:
    sample = np.random.default_rng(0).normal(0, 100, 30)
    found = difference(values(*(sample + 1)), values(*sample))
    assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.excludes_zero


def test_only_shared_keys_are_compared() -> None:
    other = {**values(0, 0), ("elsewhere", ""): 1.0}
    found = difference(values(1, 0, 1, 1), other)
    assert (found.n, found.mean) == (2, 0.5)
    assert difference(values(1), {("elsewhere", ""): 1.0}) == EMPTY
    assert math.isnan(EMPTY.mean)
    assert not EMPTY.excludes_zero


def test_a_handful_of_prompts_decides_nothing() -> None:
    few, enough = (difference(values(*[1, 2] * n), values(*[0] * 2 * n)) for n in (4, 5))
    assert min(few.low, enough.low) > 0
    assert not few.excludes_zero
    assert enough.excludes_zero


def test_no_difference_among_few_is_not_certain() -> None:
    found = difference(values(*[1] * 20), values(*[1] * 20))
    assert (found.mean, found.low, found.high) == pytest.approx((0, -0.1611, 0.1611), abs=5e-5)
    turned = difference(values(*[1] * 20), values(*[0] * 20))
    assert (turned.mean, turned.low, turned.high) == pytest.approx((1, 0.8389, 1), abs=5e-5)


def test_a_ratio_pairs_prompts_whatever_their_variants() -> None:
    plain = values(1, 1, 1, 0)
    attacked = {(prompt, variant): value for (prompt, _), value in plain.items() for variant in ("a", "b")}
    attacked[("p0000", "a")] = attacked[("p0001", "a")] = attacked[("p0001", "b")] = 0.0
    found = ratio({**attacked, ("elsewhere", "a"): 1.0}, plain)
    assert (found.n, found.num_prompts) == (8, 4)
    assert found.mean == pytest.approx(0.5)
    assert 0 <= found.low < 0.5 <= found.high
    assert ratio(plain, plain).mean == 1


def test_nothing_is_a_share_of_nothing() -> None:
    assert math.isnan(ratio(values(1, 1), values(0, 0)).mean)
    assert ratio({}, values(1)) == EMPTY


def test_a_number_that_is_no_share_is_not_taken_for_one() -> None:
    ones = values(*[1] * 9)
    assert (estimate(ones, is_share=False).low, estimate(ones, is_share=False).high) == (1, 1)
    change = difference(ones, ones, is_share=False)
    assert (change.mean, change.low, change.high) == (0, 0, 0)


def test_without_values_there_is_no_figure() -> None:
    assert estimate({}) == EMPTY
    assert math.isnan(quantile({}, 0.5))
    assert quantile(values(1, 2, 9), 0.5) == 2


def test_large_samples_are_drawn_in_parts() -> None:
    sample = np.random.default_rng(2).normal(0, 1, 3000)
    found = estimate(values(*sample))
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(3000), rel=0.1)
