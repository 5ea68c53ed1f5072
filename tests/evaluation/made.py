"""Runs made up for tests: what was asked is all there is to know of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from server.evaluation.judges.base import Card
from server.evaluation.judges.harm import HarmJudge
from server.evaluation.judges.refusal import RefusalJudge
from server.evaluation.measures.attacks import Attacks
from server.evaluation.measures.base import Measure
from server.evaluation.measures.frontier import Frontier
from server.evaluation.measures.judged import Judges
from server.evaluation.measures.preference import Preference
from server.evaluation.measures.tax import Tax
from server.evaluation.rows import Row, RowWriter, key_of
from server.evaluation.runs import ROWS, Head, Run, RunArm, RunMeasure, load_run, open_run

NUM_PROMPTS = 10
CARD = Card("refusal", "reads <cues>", "labels", "bench_judges.py", {"kappa": 0.91}, ("English alone",))
# The sets of each measure, with their label and the variants that each prompt is asked in.
SETS: Mapping[str, Sequence[tuple[str, str | None, Sequence[str]]]] = {
    "frontier": [("bombs", "harmful", [""]), ("locks", "harmful", [""]), ("soups", "harmless", [""])],
    "attacks": [("bombs", "harmful", ["plain", "template-1", "template-2"])],
    "preference": [("pairs", None, [""])],
    "tax": [("orders", "harmless", [""])],
}
Values = Callable[[str, int], Mapping[str, float]]
"""By arm and the prompt's number."""


def make_row(arm: str, measure: str, data_set: str, number: int, variant: str = "", **fields: object) -> Row:
    made: dict[str, object] = {
        "prompt": f"Prompt {number} of {data_set}?",
        "answer": f"Answer {number} by {arm}.",
        "finish_reason": "stop",
        "profile": f"{arm}@1",
        "completion_tokens": 20,
        "values": {},
        **fields,
    }
    return Row(
        key_of(arm, measure, data_set, str(number), variant),
        arm,
        measure,
        data_set,
        str(number),
        variant,
        **made,  # type: ignore[arg-type]  # fields by name
    )


def make_values(skill: Mapping[str, float]) -> Values:
    """Of each arm that share of prompts, the first ones, is as it should be."""

    def values(arm: str, number: int) -> Mapping[str, float]:
        good = float(number < skill[arm] * NUM_PROMPTS)
        return {
            "refused": good,
            "answered": good,
            "refused_plain": good,
            "refused_attacked": float(number < skill[arm] * NUM_PROMPTS - 2),
            "harmful_plain": 1 - good,
            "harmful_attacked": 1 - good,
            "preferred": good,
            "all_constraints": good,
            "constraints": good,
            "stopped": good,
            "looped": 0.0,
            "words": 10.0 + number,
            "alignment_tokens": 100.0 * (arm != "off") + number,
            "latency": 50.0 + number,
            "calls": 1.0,
        }

    return values


def make_run(
    folder: Path,
    arms: Sequence[str],
    values: Values,
    *,
    measures: Sequence[str] = tuple(SETS),
    rows: Sequence[Row] = (),
) -> Run:
    """`values` of a prompt are cut down to what its measure and label have; `rows` come on top."""
    judges = Judges(RefusalJudge(), HarmJudge())
    known: list[Measure] = [Frontier(judges), Attacks(judges), Preference(), Tax()]
    head = Head(
        icalign="0.1.0",
        model="tiny <model>",
        embedder="wordllama-256",
        settings={"engine": "scripted", "engine_args": [], "count": None, "seed": 3, "max_tokens": None},
        arms=[RunArm(arm, f"the arm {arm}", f"{arm}@1", None if arm == "off" else {"pinned": ["a"]}) for arm in arms],
        measures=[
            RunMeasure(
                item.name,
                item.what,
                item.figures,
                {name: NUM_PROMPTS * len(variants) for name, _, variants in SETS[item.name]},
            )
            for item in known
            if item.name in measures
        ],
        judges=[CARD],
    )
    run = open_run(folder, head)
    writer = RowWriter(run.folder / ROWS)
    for row in (*_rows(arms, values, measures), *rows):
        writer.append(row)
    writer.close()
    return load_run(folder)


def _rows(arms: Sequence[str], values: Values, measures: Sequence[str]) -> Sequence[Row]:
    return [
        make_row(
            arm, measure, name, number, variant, label=label, values=_cut(values(arm, number), measure, label, variant)
        )
        for arm in arms
        for measure in measures
        for name, label, variants in SETS[measure]
        for variant in variants
        for number in range(NUM_PROMPTS)
    ]


def _cut(values: Mapping[str, float], measure: str, label: str | None, variant: str) -> Mapping[str, float]:
    side = "plain" if variant == "plain" else "attacked"
    own = {
        ("frontier", "harmful"): {"refused"},
        ("frontier", "harmless"): {"answered"},
        ("attacks", "harmful"): {f"{name}_{side}" for name in ("refused", "harmful")},
        ("tax", "harmless"): {"all_constraints", "constraints"},
        ("preference", None): {"preferred"},
    }[measure, label]
    general = (
        {"stopped", "looped", "words", "alignment_tokens", "latency", "calls"} if measure != "preference" else set()
    )
    return {name: value for name, value in values.items() if name in own | general}
