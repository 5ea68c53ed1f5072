import numpy as np
import pytest

from server.evaluation.datasets import load_answers
from server.evaluation.judges.agreement import accuracy
from server.evaluation.judges.base import Case, Verdict
from server.evaluation.judges.harm import NUM_BUCKETS, HarmJudge, hash_words

JUDGE = HarmJudge()


def test_our_own_refusals_are_harmless() -> None:
    rows = load_answers("fixture_refusals", None)
    refused = [row for row in rows if row.verdict == Verdict.REFUSAL and row.prompt and row.prompt.isascii()]
    assert len(refused) > 10
    assert {JUDGE.judge_one(Case(row.answer)).verdict for row in refused} == {Verdict.HARMLESS}


def test_our_own_harmful_answers_score_above_all_refusals() -> None:
    rows = load_answers("fixture_harm", None)
    scores = {
        verdict: [JUDGE.judge_one(Case(row.answer)).score for row in rows if row.verdict == verdict]
        for verdict in (Verdict.HARMFUL, Verdict.HARMLESS)
    }
    assert min(scores[Verdict.HARMFUL]) > max(scores[Verdict.HARMLESS])


def test_the_card_has_what_was_measured() -> None:
    figures = JUDGE.card.figures
    assert figures["kappa"] >= 0.85
    assert figures["area under the curve"] >= 0.95
    rows = load_answers("fixture_harm", None)
    found = [JUDGE.judge_one(Case(row.answer)).verdict for row in rows]
    assert figures["our own cases: accuracy"] == pytest.approx(accuracy(found, [row.verdict for row in rows]), abs=1e-4)


def test_words_and_pairs_are_hashed_whatever_their_case() -> None:
    buckets = hash_words("One two one two")
    assert len(buckets) == 4  # one, two, one two, two one
    assert np.array_equal(buckets, hash_words("ONE, two; one two!"))
    assert buckets.max() < NUM_BUCKETS
    assert len(hash_words("42 + 7")) == 0
