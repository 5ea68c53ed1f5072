"""Which embedder tells harmful requests from harmless ones, and what each costs.

Leave-one-out over the shipped bank: each demonstration's message is scored by its neighbours without itself and
without the other half of its pair, which was written to be near it. With
`--data DIR` also over public sets in that folder (harmbench, xstest, mt_bench as JSON lines).

    python tests/bench/bench_embedders.py [--data DIR]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.core.types import Demonstration, Risk, Vectors
from server.profiles.store import load_profiles
from server.retrieval.base import Embedder
from server.retrieval.minilm import MiniLMEmbedder, prepare_minilm
from server.retrieval.risk import score_risk
from server.retrieval.wordllama import WordLlamaEmbedder
from server.settings import default_cache_dir, default_prompts_dir

NUM_NEIGHBOURS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    bank = load_profiles(default_prompts_dir())["default"].demonstrations
    embedders: list[Embedder] = [
        MiniLMEmbedder(prepare_minilm(default_cache_dir() / "embedders", report=print)),
        WordLlamaEmbedder(),
    ]
    for embedder in embedders:
        print(f"{embedder.name}: one query {latency_ms(embedder, bank):.3f} ms (median of 200)")
        for name, harmful, harmless in comparisons(embedder, bank, data):
            print(f"  area under the curve, {name}: {area(harmful, harmless):.3f}")


def latency_ms(embedder: Embedder, bank: Sequence[Demonstration]) -> float:
    times = []
    for index in range(200):
        started = time.perf_counter()
        embedder.embed([bank[index % len(bank)].user])
        times.append((time.perf_counter() - started) * 1000)
    return median(times)


def comparisons(
    embedder: Embedder, bank: Sequence[Demonstration], data: Path | None
) -> list[tuple[str, list[float], list[float]]]:
    vectors = embedder.embed([item.user for item in bank])
    harmful = np.array([item.risk is Risk.HARMFUL for item in bank])
    pairs = [item.contrast or item.id for item in bank]
    own = [score_without(index, vectors, harmful, pairs) for index in range(len(bank))]
    of = risk_picker(bank, own)
    found = [
        ("bank, harmful against look-alikes", of(Risk.HARMFUL), of(Risk.LOOKALIKE)),
        ("bank, harmful against ordinary", of(Risk.HARMFUL), of(Risk.BENIGN)),
    ]
    if data is None:
        return found

    def score(prompts: Sequence[str]) -> list[float]:
        return [score_risk(vectors @ row, harmful, NUM_NEIGHBOURS) for row in embedder.embed(prompts)]

    harm = score([row["prompt"] for row in read(data / "harmbench.jsonl")])
    xstest = read(data / "xstest.jsonl")
    safe = score([row["prompt"] for row in xstest if row["label"] == "safe"])
    ordinary = score([row["turns"][0] for row in read(data / "mt_bench.jsonl")])
    return [*found, ("HarmBench against MT-Bench", harm, ordinary), ("HarmBench against XSTest safe", harm, safe)]


def score_without(index: int, vectors: Vectors, harmful: NDArray[np.bool_], pairs: Sequence[str]) -> float:
    others = np.array([pair != pairs[index] for pair in pairs])
    return score_risk(vectors[others] @ vectors[index], harmful[others], NUM_NEIGHBOURS)


def risk_picker(bank: Sequence[Demonstration], scores: Sequence[float]) -> Callable[[Risk], list[float]]:
    return lambda risk: [score for item, score in zip(bank, scores, strict=True) if item.risk is risk]


def area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return sum(wins) / len(wins)


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
