"""How well the judges agree with people, and what a judgement costs.

Without a folder: our own cases alone. With `--data DIR` (see server/evaluation/datasets.py) the full validation, in
which a judge of refusal is fitted to two models' answers in XSTest and tested on the third's, and a judge of harm is
fitted and tested on different prompts of GPTFuzz. `--write` then fits the shipped weights to all of it, and writes them
and the cards. `--remote URL --model MODEL` validates a language model as the judge instead.

    python tests/bench/bench_judges.py [--data DIR [--write | --remote URL --model MODEL [--sample N]]]
"""

import argparse
import json
import re
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import anyio
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.evaluation.datasets import LabelledAnswer, load_answers, sample
from server.evaluation.judges import harm, refusal
from server.evaluation.judges.agreement import accuracy, area_under_curve, cohen_kappa
from server.evaluation.judges.base import Card, Case, Judge, LocalJudge, Verdict, write_card
from server.evaluation.judges.cues import read_sentences
from server.evaluation.judges.harm import HarmJudge, hash_words
from server.evaluation.judges.refusal import Logistic, RefusalJudge, help_features, refusal_features
from server.evaluation.judges.remote import Aspect, RemoteJudge
from tests.bench.judge_fitting import Hashed, fit_hashed, fit_signed

COMMAND = "python tests/bench/bench_judges.py --data DIR --write"
MODELS = ("gpt4", "llama2orig", "mistralguard")
NUM_FOLDS = 5
CUT_WORDS = 60  # about 80 tokens
REFUSAL_PENALTY = 0.2
HARM_PENALTY = 0.1
AGAINST_REFUSAL = (
    "opens with doubt or fact",
    "opens with a definition",
    "opens with agreement",
    "opens neutrally",
    "share neutral",
    "share answering",
    "items",
)
AGAINST_HELP = ("share declining",)

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--write", action="store_true", help="write the shipped weights and cards")
    parser.add_argument("--remote", help="base URL of a server whose model is to be validated as the judge")
    parser.add_argument("--model", default="default")
    parser.add_argument(
        "--sample", type=int, default=200, help="answers of each set that a remote judge is asked about"
    )
    options = parser.parse_args()
    if options.remote and options.data:
        anyio.run(validate_remote, options.remote, options.model, options.data, options.sample)
        return
    if options.data:
        for card in (
            validate_refusal(options.data, write=options.write),
            validate_harm(options.data, write=options.write),
        ):
            show(card)
    show_own()


def show(card: Card) -> None:
    print(f"{card.name}: {card.what}")
    for name, value in card.figures.items():
        print(f"  {name}: {value:.3f}")


def show_own() -> None:
    """The shipped judges on our own cases."""
    for judge, name in ((RefusalJudge(), "fixture_refusals"), (HarmJudge(), "fixture_harm")):
        rows = load_answers(name, None)
        started = time.perf_counter()
        found = verdicts(judge, rows)
        cost_ms = (time.perf_counter() - started) * 1000 / len(rows)
        print(
            f"{judge.card.name}, {name}: {accuracy(found, truth(rows)):.3f} right of {len(rows)}, {cost_ms:.2f} ms each"
        )
        for row, verdict in zip(rows, found, strict=True):
            if verdict != row.verdict:
                print(f"  {row.id} is {row.verdict}, found {verdict}")


def verdicts(judge: LocalJudge, rows: Sequence[LabelledAnswer]) -> list[str]:
    return [judge.judge_one(Case(row.answer, row.prompt)).verdict for row in rows]


def truth(rows: Sequence[LabelledAnswer]) -> list[str]:
    return [row.verdict for row in rows]


def is_refused(found: Sequence[str]) -> list[str]:
    """Full and partial refusals as one."""
    return [str(verdict in {Verdict.REFUSAL, Verdict.PARTIAL}) for verdict in found]


def fold(row: LabelledAnswer) -> int:
    return zlib.crc32(row.group.encode()) % NUM_FOLDS


def cut(answer: str) -> str:
    """What is left where a model is stopped early."""
    words = list(re.finditer(r"\S+", answer))
    return answer[: words[CUT_WORDS - 1].end()] if len(words) > CUT_WORDS else answer


# Refusal


class FittedRefusalJudge(RefusalJudge):
    """The judge with other weights than the shipped ones."""

    def __init__(self, refused: Logistic, partial: Logistic) -> None:
        self._refused = refused
        self._partial = partial


def fit_refusal(rows: Sequence[LabelledAnswer]) -> FittedRefusalJudge:
    read = [(row, read_sentences(row.answer)) for row in rows]
    refused = fit_signed(
        [refusal_features(row.answer, sentences) for row, sentences in read],
        [row.verdict != Verdict.COMPLIANCE for row, _ in read],
        negative_names=AGAINST_REFUSAL,
        penalty=REFUSAL_PENALTY,
    )
    withheld = [(row, sentences) for row, sentences in read if row.verdict != Verdict.COMPLIANCE]
    partial = fit_signed(
        [help_features(row.answer, sentences) for row, sentences in withheld],
        [row.verdict == Verdict.PARTIAL for row, _ in withheld],
        negative_names=AGAINST_HELP,
        penalty=REFUSAL_PENALTY,
    )
    return FittedRefusalJudge(refused, partial)


def validate_refusal(data: Path, *, write: bool) -> Card:
    answers = {model: load_answers(f"xstest_completions_{model}", data) for model in MODELS}
    figures: Figures = {}
    for model, tested in answers.items():
        others = [row for other in MODELS if other != model for row in answers[other]]
        figures |= score_refusal(fit_refusal(others), tested, model)
        strict = [
            (row, verdict)
            for number in range(NUM_FOLDS)
            for row, verdict in judged_apart([row for row in others if fold(row) != number], tested, number)
        ]
        found, true = [verdict for _, verdict in strict], [row.verdict for row, _ in strict]
        figures[f"{model}: kappa, other prompts too"] = cohen_kappa(is_refused(found), is_refused(true))
    final = fit_refusal([row for model in MODELS for row in answers[model]])
    own = load_answers("fixture_refusals", None)
    figures["our own cases: accuracy"] = accuracy(verdicts(final, own), truth(own))
    card = Card(
        name="refusal",
        what="sorts sentences by hand-written cues in seven languages and weighs them in two logistic models",
        data="XSTest v2 completions with human labels; fitted to two models' answers, tested on the third's",
        command=COMMAND,
        figures={name: round(value, 4) for name, value in figures.items()},
        limits=(
            "refused means full or partial refusal; telling these two apart is the weaker part",
            "the labels are uneven on nonsensical questions and mildly evasive answers, which bounds the figures",
            "cues and penalty were chosen with these sets at hand; on other models' answers it may agree less",
            "languages other than English are measured on our own cases alone",
        ),
    )
    if write:
        models = {"refused": asdict(final._refused), "partial": asdict(final._partial)}
        refusal.WEIGHTS.write_text(json.dumps(rounded(models), indent=2) + "\n", "utf-8")
        write_card(card, refusal.CARD)
    return card


def judged_apart(
    fitted_to: Sequence[LabelledAnswer], tested: Sequence[LabelledAnswer], number: int
) -> list[tuple[LabelledAnswer, str]]:
    rows = [row for row in tested if fold(row) == number]
    return list(zip(rows, verdicts(fit_refusal(fitted_to), rows), strict=True))


def score_refusal(judge: LocalJudge, rows: Sequence[LabelledAnswer], model: str) -> Figures:
    found, true = verdicts(judge, rows), truth(rows)
    shortened = verdicts(judge, [replace(row, answer=cut(row.answer)) for row in rows])
    return {
        f"{model}: kappa, refused or not": cohen_kappa(is_refused(found), is_refused(true)),
        f"{model}: accuracy, refused or not": accuracy(is_refused(found), is_refused(true)),
        f"{model}: kappa, answers cut off": cohen_kappa(is_refused(shortened), is_refused(true)),
        f"{model}: kappa, three classes": cohen_kappa(found, true),
    }


def rounded(models: Mapping[str, Mapping[str, object]]) -> object:
    return json.loads(json.dumps(models), parse_float=lambda text: round(float(text), 4))


# Harm


def validate_harm(data: Path, *, write: bool) -> Card:
    rows = load_answers("gptfuzz_labelled", data)
    texts = Hashed([hash_words(row.answer) for row in rows])
    positive = np.array([row.verdict == Verdict.HARMFUL for row in rows])
    folds = np.array([fold(row) for row in rows])
    totals = np.zeros(len(rows))
    for number in range(NUM_FOLDS):
        weights, bias = fit_hashed(texts, positive.astype(float), folds != number, penalty=HARM_PENALTY)
        totals[folds == number] = (texts.times(weights) + bias)[folds == number]
    found = [Verdict.HARMFUL if total >= 0 else Verdict.HARMLESS for total in totals]
    figures = {
        "accuracy": accuracy(found, truth(rows)),
        "area under the curve": area_under_curve(totals.tolist(), positive.tolist()),
        "kappa": cohen_kappa(found, truth(rows)),
    }
    weights, bias = fit_hashed(texts, positive.astype(float), np.ones(len(rows), np.bool_), penalty=HARM_PENALTY)
    scale = np.float32(np.abs(weights).max() / 127)
    judge = FittedHarmJudge(np.round(weights / scale).astype(np.int8), scale, bias)
    figures |= transfer(judge, data)
    card = Card(
        name="harm",
        what="a linear model over hashed words and pairs of words, for answers to harmful requests",
        data=f"GPTFuzz's labelled answers, {NUM_FOLDS}-fold by prompt; elsewhere: XSTest v2 completions",
        command=COMMAND,
        figures={name: round(value, 4) for name, value in figures.items()},
        limits=(
            "ask it about answers to harmful requests only: it takes many full answers to harmless ones for harmful",
            "fitted to one English-speaking chat model under jailbreaks; other models and languages are not measured",
            "it does not check that an answer is about the question, or that what it says would work",
        ),
    )
    if write:
        np.savez_compressed(harm.WEIGHTS, weights=judge.quantised, scale=scale, bias=np.float32(bias))
        write_card(card, harm.CARD)
    return card


class FittedHarmJudge(HarmJudge):
    """The judge with other weights than the shipped ones, as the file would hold them."""

    def __init__(self, quantised: np.typing.NDArray[np.int8], scale: np.float32, bias: float) -> None:
        self.quantised = quantised
        self._weights = quantised.astype(np.float32) * scale
        self._bias = bias


def transfer(judge: LocalJudge, data: Path) -> Figures:
    """What share it calls harmful of answers that are not, from other models than it was fitted to."""
    answers = [row for model in MODELS for row in load_answers(f"xstest_completions_{model}", data)]
    refusals = [row for row in answers if row.kind.startswith("contrast") and row.verdict == Verdict.REFUSAL]
    answered = [row for row in answers if not row.kind.startswith("contrast") and row.verdict == Verdict.COMPLIANCE]
    is_harmful: Callable[[Sequence[LabelledAnswer]], float] = lambda rows: float(  # noqa: E731
        np.mean([verdict == Verdict.HARMFUL for verdict in verdicts(judge, rows)])
    )
    own = load_answers("fixture_harm", None)
    return {
        "called harmful of refused harmful requests, other models": is_harmful(refusals),
        "called harmful of answered harmless requests, other models": is_harmful(answered),
        "our own cases: accuracy": accuracy(verdicts(judge, own), truth(own)),
    }


# A language model as the judge


async def validate_remote(url: str, model: str, data: Path, count: int) -> None:
    for aspect, names in (
        (Aspect.REFUSAL, [f"xstest_completions_{name}" for name in MODELS]),
        (Aspect.HARM, ["gptfuzz_labelled"]),
    ):
        judge: Judge = RemoteJudge(url, model, aspect)
        for name in names:
            rows = sample(load_answers(name, data), count, seed=1)
            judgements = await judge.judge([Case(row.answer, row.prompt) for row in rows])
            found: list[str] = [item.verdict for item in judgements]
            unreadable = found.count(Verdict.UNREADABLE)
            true = truth(rows)
            if aspect is Aspect.REFUSAL:
                found, true = is_refused(found), is_refused(true)
            kappa = cohen_kappa(found, true)
            print(f"{judge.card.name}, {name}: kappa {kappa:.3f} of {len(rows)}, {unreadable} unreadable")


if __name__ == "__main__":
    main()
