"""Which embedder tells harmful requests from harmless ones, with risk messages and without, and what each costs.

Leave-one-out over the shipped bank: each demonstration's message is scored by its neighbours without itself and
without the other half of its pair, which was written to be near it. With `--data DIR` also over public sets in that
folder (harmbench, strongreject, advbench, xstest, mt_bench, just_eval as JSON lines), through the retriever, and with
the shares of them at or above the thresholds of the profile `default`.

    python tests/bench/bench_embedders.py [--data DIR]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.core.types import Demonstration, Profile, Risk, Vectors
from server.profiles.store import load_profiles
from server.retrieval.base import Embedder
from server.retrieval.encoders import MINILM, MPNET, OnnxEmbedder, prepare_encoder
from server.retrieval.retriever import Retrievers
from server.retrieval.risk import score_risk
from server.retrieval.wordllama import WordLlamaEmbedder
from server.settings import default_cache_dir, default_prompts_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    profile = load_profiles(default_prompts_dir())["default"]
    folder = default_cache_dir() / "embedders"
    embedders: list[Embedder] = [
        *(OnnxEmbedder(item, prepare_encoder(item, folder, report=print)) for item in (MPNET, MINILM)),
        WordLlamaEmbedder(),
    ]
    sets = read_sets(data) if data else {}
    for embedder in embedders:
        print(f"{embedder.name}: one query {latency_ms(embedder, profile.demonstrations):.3f} ms (median of 200)")
        print(f"  embedding {len(profile.risk_messages)} messages: {messages_s(embedder, profile):.1f} s")
        for name, item in (("bank alone", replace(profile, risk_messages=())), ("bank and messages", profile)):
            print(f"  {name}, {item.retrieval.num_neighbours} neighbours")
            show(own_scores(embedder, item), OWN)
            if sets:
                scores = retrieved_scores(embedder, item, sets)
                show(scores, PUBLIC)
                show_shares(scores, item.retrieval.thresholds)


OWN = (("bank harmful", "bank look-alikes"), ("bank harmful", "bank ordinary"))
PUBLIC = (("harmful", "XSTest safe"), ("harmful", "ordinary"), ("XSTest unsafe", "XSTest safe"))


def show(scores: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]) -> None:
    for first, second in pairs:
        print(f"    area under the curve, {first} against {second}: {area(scores[first], scores[second]):.3f}")


def show_shares(scores: Mapping[str, Sequence[float]], thresholds: tuple[float, float]) -> None:
    for name, values in scores.items():
        shares = " and ".join(f"{np.mean(np.array(values) >= threshold):.1%}" for threshold in thresholds)
        print(f"    {name}, {len(values)} requests: {shares} at or above {thresholds[0]} and {thresholds[1]}")


def latency_ms(embedder: Embedder, bank: Sequence[Demonstration]) -> float:
    times = []
    for index in range(200):
        started = time.perf_counter()
        embedder.embed([bank[index % len(bank)].user])
        times.append((time.perf_counter() - started) * 1000)
    return median(times)


def messages_s(embedder: Embedder, profile: Profile) -> float:
    started = time.perf_counter()
    embedder.embed([item.user for item in profile.risk_messages])
    return time.perf_counter() - started


def own_scores(embedder: Embedder, profile: Profile) -> Mapping[str, Sequence[float]]:
    bank, messages = profile.demonstrations, profile.risk_messages
    vectors = embedder.embed([*(item.user for item in bank), *(item.user for item in messages)])
    harmful = np.array([*(item.is_harmful for item in bank), *(item.is_harmful for item in messages)])
    pairs = [*(item.contrast or item.id for item in bank), *("" for _ in messages)]
    count = profile.retrieval.num_neighbours
    own = [score_without(index, vectors, harmful, pairs, count) for index in range(len(bank))]
    of = risk_picker(bank, own)
    return {"bank harmful": of(Risk.HARMFUL), "bank look-alikes": of(Risk.LOOKALIKE), "bank ordinary": of(Risk.BENIGN)}


def retrieved_scores(
    embedder: Embedder, profile: Profile, sets: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[float]]:
    retriever = Retrievers(embedder, len).build([profile])[profile.label]
    return {name: [retriever.retrieve(prompt).risk for prompt in prompts] for name, prompts in sets.items()}


def score_without(index: int, vectors: Vectors, harmful: NDArray[np.bool_], pairs: Sequence[str], count: int) -> float:
    others = np.array([pair != pairs[index] for pair in pairs])
    return score_risk(vectors[others] @ vectors[index], harmful[others], count)


def risk_picker(bank: Sequence[Demonstration], scores: Sequence[float]) -> Callable[[Risk], list[float]]:
    return lambda risk: [score for item, score in zip(bank, scores, strict=True) if item.risk is risk]


def area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return sum(wins) / len(wins)


def read_sets(data: Path) -> Mapping[str, Sequence[str]]:
    xstest = read(data / "xstest.jsonl")
    unsafe = [row["prompt"] for row in xstest if row["label"] == "unsafe"]
    harmful = [row["prompt"] for name in ("strongreject", "advbench") for row in read(data / f"{name}.jsonl")]
    standard = [row["prompt"] for row in read(data / "harmbench.jsonl") if row.get("kind", "standard") == "standard"]
    regular = [row["prompt"] for row in read(data / "just_eval.jsonl") if row["category"] == "regular"]
    return {
        "harmful": [*standard, *harmful, *unsafe],
        "XSTest unsafe": unsafe,
        "XSTest safe": [row["prompt"] for row in xstest if row["label"] == "safe"],
        "ordinary": [*(row["turns"][0] for row in read(data / "mt_bench.jsonl")), *regular],
    }


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
