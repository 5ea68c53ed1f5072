"""What a large bank costs: loading, a query beyond its embedding, a reload, memory; and which search suits it.

Banks are made up from word lists. Each size is loaded by processes of their own: once with nothing embedded yet, once
from the cache on disk, where queries follow, and reloads after one edit each until all kept versions are there. Then
the vectors of the largest bank are searched in several ways, with optional libraries where they can be imported. The
recall is of the 32 nearest of each risk, which demonstrations are chosen from, and of the 64 nearest of all, by which
risk is judged.

    python tests/bench/bench_bank.py [--sizes 240 10000 100000] [--embedder minilm] [--form jsonl]
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.app import load_embedder, load_library, load_tokenizer_for
from server.core.types import Demonstration, Vectors
from server.engine.packaged import prepare_model
from server.retrieval.base import Embedder
from server.retrieval.index import NeighbourIndex
from server.retrieval.remembered import Remembered
from server.retrieval.vectors import VectorStore
from server.settings import EngineKind, Settings, default_cache_dir, default_prompts_dir

NUM_QUERIES = 500
NUM_RELOADS = 9
YAML_FILE_ITEMS = 20_000
NUM_POOL, NUM_NEIGHBOURS = 32, 64

OPENINGS = """|Please |can you |I need to |Quick one: |Help me |hey, |For a friend: |My boss wants me to |How would I \
|What do I do first to |In simple words, |Step by step, |Before Friday I have to |I never learned to |Show me how to """
TASKS = {
    "benign": """repair|describe|draw|clean|organise|compare|paint|sell|grow|write a note about|write a poem about\
|count with a script|plan a party around|explain the history of|work out the cost of|name ten facts about\
|design a logo with|photograph|store|choose|teach children about|advertise|summarise an article on|make a table of""",
    "sensitive": """talk to my doctor about|cope with losing|ask a lawyer about a dispute over|stop worrying about\
|discuss with my teenager|deal with debt caused by""",
    "lookalike": """kill a process that watches|shoot a film about|blow up a photo of|crack a puzzle about\
|murder a song about|steal the show with""",
    "harmful": """steal|poison someone with|forge papers for|smuggle|sabotage|blackmail somebody over|set fire to\
|break into a place that keeps""",
}
SHARES = {"benign": 60, "sensitive": 15, "lookalike": 10, "harmful": 15}
THINGS = """bicycle|sourdough bread|garden shed|violin|laptop|tomato plants|wedding dress|old letters|solar panels\
|kitchen sink|stamp collection|chess set|electric car|castle|coral reef|coffee machine|bank account|church organ\
|snow tyres|honey bees|tax records|water pump|family recipes|telescope|puppet theatre|leather boots|hospital beds\
|railway timetable|goldfish pond|fire alarm|data centre|birthday cake|climbing rope|paper lanterns|museum exhibits\
|sewing machine|apple orchard|school library|radio tower|wooden toys|diesel generator|ballet shoes|satellite images\
|cheese cellar|passports|medicines|jewellery|sailing boat|fossils|drum kit|weather station|potato field"""
PLACES = """in my flat|in a small village|at the harbour|for a school project|during winter|on a tight budget\
|with two toddlers around|in Lisbon|in Nairobi|near the airport|for my grandmother|without any tools\
|while travelling by train|in a rented house|on a farm|for a charity event|after a flood|for a job interview\
|in the desert|at night|for a museum|in the army|at my university|for our neighbours|during a strike|in a skyscraper\
|on an island|for a film set|in an old factory|at a music festival|for the city council|in a hospital|when it rains"""
ENDINGS = "|?|.| please|, thanks| - any ideas|??| asap|, and how long does it take|, and what does it cost"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[240, 10_000, 100_000])
    parser.add_argument("--embedder", choices=["mpnet", "minilm", "wordllama"], default="minilm")
    parser.add_argument("--form", choices=["jsonl", "yaml"], default="jsonl")
    parser.add_argument("--part", choices=["cold", "warm", "search"], help="one part, in this process")
    parser.add_argument("--folder", type=Path, help="where that part finds its files")
    options = parser.parse_args()
    if options.part:
        {"cold": load_cold, "warm": load_warm, "search": search}[options.part](options.folder, options.embedder)
        return
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            make_bank(folder / "prompts", size, options.form)
            make_cache(folder / "cache")
            print(f"{size} demonstrations as {options.form}, {options.embedder}")
            last = size == max(options.sizes)
            for part in ("cold", "warm", "search") if last else ("cold", "warm"):
                command = [sys.executable, __file__, "--part", part, "--folder", scratch]
                subprocess.run([*command, "--embedder", options.embedder], check=True)


def make_bank(folder: Path, size: int, form: str) -> None:
    """The shipped prompts with `size` demonstrations in place of their own."""
    for part in ("constitutions", "templates"):
        copytree(default_prompts_dir() / part, folder / part)
    (folder / "demonstrations").mkdir()
    (folder / "profiles").mkdir()
    for name in ("default", "base"):
        text = (default_prompts_dir() / "profiles" / f"{name}.yaml").read_text("utf-8")
        lines = re.sub(r"^demonstrations:.*$", "demonstrations: [made-*]", text, flags=re.MULTILINE).split("\n")
        (folder / "profiles" / f"{name}.yaml").write_text("\n".join(lines), "utf-8")
    items = list(made_up(size))
    if form == "jsonl":
        text = "\n".join(json.dumps(item) for item in items)
        (folder / "demonstrations" / "made-0.jsonl").write_text(text, "utf-8")
        return
    for start in range(0, size, YAML_FILE_ITEMS):
        name = f"made-{start // YAML_FILE_ITEMS}"
        head = f"id: {name}\ndescription: Made up.\nsource: Made up.\ndemonstrations:\n"
        text = head + "".join(map(as_yaml, items[start : start + YAML_FILE_ITEMS]))
        (folder / "demonstrations" / f"{name}.yaml").write_text(text, "utf-8")


def as_yaml(item: Mapping[str, str]) -> str:
    """As a person writes it."""
    short = "".join(f"    {name}: {item[name]}\n" for name in ("topic", "aspect", "risk"))
    answer = item["assistant"].replace("\n", "\n      ")
    return f"  - id: {item['id']}\n{short}    user: {json.dumps(item['user'])}\n    assistant: |-\n      {answer}\n\n"


def made_up(size: int) -> Iterator[dict[str, str]]:
    """Different messages, with answers of some 500 characters."""
    chance = random.Random(0)  # noqa: S311 - it makes up text
    words = " ".join([THINGS, PLACES]).replace("|", " ").split()
    seen: set[str] = set()
    while len(seen) < size:
        (risk,) = chance.choices(list(SHARES), list(SHARES.values()))
        parts = [chance.choice(part.split("|")) for part in (OPENINGS, TASKS[risk], THINGS, PLACES, ENDINGS)]
        user = f"{parts[0]}{parts[1]} {parts[2]} {parts[3]}{parts[4]}"
        if user in seen:
            continue
        answer = "\n".join(" ".join(chance.choices(words, k=18)).capitalize() + "." for _ in range(4))
        number = len(seen)
        seen.add(user)
        yield {
            "id": f"made-{number}",
            "topic": f"topic-{number % 50}",
            "aspect": "helpful",
            "risk": risk,
            "user": user,
            "assistant": answer,
        }


def make_cache(folder: Path) -> None:
    """With the prepared models, and with nothing of the bank."""
    folder.mkdir()
    prepare_model("smollm2-135m-instruct", default_cache_dir() / "models", report=print)
    for name in ("embedders", "models"):
        (default_cache_dir() / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(default_cache_dir() / name)


def settings_of(folder: Path, embedder: str) -> Settings:
    model = prepare_model("smollm2-135m-instruct", default_cache_dir() / "models", report=print)
    values = {"prompts": folder / "prompts", "cache_dir": folder / "cache", "embedder": embedder}
    return Settings.model_validate({**values, "engine": EngineKind.SCRIPTED, "tokenizer": str(model)})


class Measured:
    """An embedder that takes the time it takes."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.dimension = embedder.name, embedder.dimension
        self.took_s = 0.0
        self._embedder = embedder

    def embed(self, texts: Sequence[str]) -> Vectors:
        started = time.perf_counter()
        vectors = self._embedder.embed(texts)
        self.took_s += time.perf_counter() - started
        return vectors


def load_cold(folder: Path, embedder: str) -> None:
    settings = settings_of(folder, embedder)
    tokenizer, loaded = load_tokenizer_for(settings, print), load_embedder(settings, print)
    started = time.perf_counter()
    load_library(settings, loaded, tokenizer)
    print(f"  load, nothing embedded yet: {time.perf_counter() - started:.1f} s, peak {peak_mb()} MB")


def load_warm(folder: Path, embedder: str) -> None:
    settings = settings_of(folder, embedder)
    tokenizer, measured = load_tokenizer_for(settings, print), Measured(load_embedder(settings, print))
    measured.embed(["what the model needs is there from the first text on"])
    before_mb = resident_mb()
    started = time.perf_counter()
    library = load_library(settings, measured, tokenizer)
    took_s = time.perf_counter() - started
    print(f"  load from the cache: {took_s:.1f} s, memory {before_mb} to {resident_mb()} MB, peak {peak_mb()} MB")
    ready = library.current.ready[library.current.profiles.current["default"].label]
    np.save(folder / "vectors.npy", measured.embed([item.user for item in ready.profile.demonstrations]))
    (folder / "risks.json").write_text(json.dumps([item.risk for item in ready.profile.demonstrations]))
    queries = queries_like(ready.profile.demonstrations)
    np.save(folder / "queries.npy", measured.embed(queries))
    times_ms = []
    for query in queries:
        measured.took_s, started = 0.0, time.perf_counter()
        ready.retriever.retrieve(query)
        times_ms.append((time.perf_counter() - started - measured.took_s) * 1000)
    print(f"  query beyond its embedding: {spread(times_ms)}")
    del ready
    times_ms = []
    for number in range(NUM_RELOADS):
        edit(folder / "prompts", number)
        library.refresh()  # sees the change; the next look finds it settled
        started = time.perf_counter()
        library.refresh()
        times_ms.append((time.perf_counter() - started) * 1000)
    kept = len(library.current.profiles.versions("default"))
    print(f"  reload after one edit: {spread(times_ms)}; with {kept} versions {resident_mb()} MB, peak {peak_mb()} MB")


def queries_like(bank: Sequence[Demonstration]) -> list[str]:
    """Half of a message and half of another, so that none is in the bank."""
    chance = random.Random(1)  # noqa: S311 - the same
    halves = [[item.user.split() for item in chance.choices(bank, k=2)] for _ in range(NUM_QUERIES)]
    return [" ".join(first[: len(first) // 2] + second[len(second) // 2 :]) for first, second in halves]


def edit(prompts: Path, number: int) -> None:
    """Change the message of the first demonstration."""
    path = min((prompts / "demonstrations").iterdir())
    changed = re.sub(r'("user": |user: )"', rf'\1"Edit {number}. ', path.read_text("utf-8"), count=1)
    path.write_text(changed, "utf-8")


Search = Callable[[Vectors], Sequence[NDArray[np.intp]]]
"""Gives, for a query, the positions of the nearest of each group, the nearest first or in any order."""


def search(folder: Path, _: str) -> None:
    """Compare ways to search. Each finds the nearest of each risk, as choosing demonstrations asks for."""
    vectors: Vectors = np.load(folder / "vectors.npy")
    queries: Vectors = np.load(folder / "queries.npy")
    risks = json.loads((folder / "risks.json").read_text())
    groups = [np.flatnonzero(np.array(risks) == risk) for risk in dict.fromkeys(risks)]
    exact = measured_search(exact_search, vectors, groups, queries, risks)[0]
    for name, build in WAYS.items():
        try:
            found, build_s, times_ms = measured_search(build, vectors, groups, queries, risks)
        except ImportError:
            print(f"  {name}: not installed")
            continue
        print(f"  {name}: {spread(times_ms)}, recall {recall(exact, found):.4f}, built in {build_s:.1f} s")


def measured_search(
    build: "Build", vectors: Vectors, groups: Sequence[NDArray[np.intp]], queries: Vectors, risks: Sequence[str]
) -> tuple[list[list[set[int]]], float, list[float]]:
    """The nearest of each group for each query, seconds to build, and milliseconds of each query."""
    started = time.perf_counter()
    find = build(vectors, groups, risks)
    build_s = time.perf_counter() - started
    found, times_ms = [], []
    for query in queries:
        started = time.perf_counter()
        positions = find(query)
        times_ms.append((time.perf_counter() - started) * 1000)
        ranked = [group[np.argsort(-(vectors[group] @ query), kind="stable")] for group in positions]
        found.append([set(group[:NUM_POOL].tolist()) for group in ranked])
        of_all = np.concatenate(ranked)
        found[-1].append(set(of_all[np.argsort(-(vectors[of_all] @ query), kind="stable")][:NUM_NEIGHBOURS].tolist()))
    return found, build_s, times_ms


def recall(exact: list[list[set[int]]], found: list[list[set[int]]]) -> float:
    """The share of what should be found that is."""
    pairs = [
        (wanted, got) for one, other in zip(exact, found, strict=True) for wanted, got in zip(one, other, strict=True)
    ]
    return sum(len(wanted & got) for wanted, got in pairs) / sum(len(wanted) for wanted, _ in pairs)


def exact_search(vectors: Vectors, groups: Sequence[NDArray[np.intp]], _: Sequence[str]) -> Search:
    """One matrix product with all vectors."""

    def find(query: Vectors) -> list[NDArray[np.intp]]:
        similarities = vectors @ query
        return [group[np.argpartition(-similarities[group], NUM_NEIGHBOURS)[:NUM_NEIGHBOURS]] for group in groups]

    return find


def sign_search(vectors: Vectors, groups: Sequence[NDArray[np.intp]], risks: Sequence[str]) -> Search:
    """What the server does."""
    store = VectorStore(
        Remembered("made up", lambda texts: vectors[[int(text) for text in texts]], np.float32, vectors.shape[1])
    )
    names = [str(i) for i in range(len(vectors))]
    store.add(names)
    index = NeighbourIndex(store, store.rows(names), risks)
    labels = np.empty(len(vectors), np.intp)
    for number, group in enumerate(groups):
        labels[group] = number

    def find(query: Vectors) -> list[NDArray[np.intp]]:
        found = index.nearest(query).positions
        return [found[labels[found] == number] for number in range(len(groups))]

    return find


def usearch_search(dtype: str) -> "Build":
    """A graph for each group; numbers kept as `dtype`."""

    def build(vectors: Vectors, groups: Sequence[NDArray[np.intp]], _: Sequence[str]) -> Search:
        index_type: Any = import_module("usearch.index").Index
        indexes = []
        for group in groups:
            indexes.append(index_type(ndim=vectors.shape[1], metric="cos", dtype=dtype, expansion_search=256))
            indexes[-1].add(group, vectors[group])
        return lambda query: [index.search(query, NUM_NEIGHBOURS).keys.astype(np.intp) for index in indexes]

    return build


def faiss_search(description: str) -> "Build":
    """An index of faiss for each group, by its description."""

    def build(vectors: Vectors, groups: Sequence[NDArray[np.intp]], _: Sequence[str]) -> Search:
        faiss: Any = import_module("faiss")
        faiss.omp_set_num_threads(1)
        indexes = []
        for group in groups:
            index = faiss.index_factory(vectors.shape[1], description, faiss.METRIC_INNER_PRODUCT)
            index.train(vectors[group])
            index.add(vectors[group])
            if description.startswith("IVF"):
                index.nprobe = 16
            elif description.startswith("HNSW"):
                index.hnsw.efSearch = 256
            indexes.append(index)
        return lambda query: [
            group[index.search(query[None], NUM_NEIGHBOURS)[1][0]] for group, index in zip(groups, indexes, strict=True)
        ]

    return build


Build = Callable[[Vectors, Sequence[NDArray[np.intp]], Sequence[str]], Search]
WAYS: Mapping[str, Build] = {
    "exact, one matrix product": exact_search,
    "signs, then exact (the server's)": sign_search,
    "usearch graph, f16": usearch_search("f16"),
    "usearch graph, i8": usearch_search("i8"),
    "faiss HNSW32": faiss_search("HNSW32,Flat"),
    "faiss IVF256": faiss_search("IVF256,Flat"),
}


def spread(times_ms: Sequence[float]) -> str:
    low, high = np.percentile(times_ms, [50, 99])
    return f"median {low:.2f} ms, p99 {high:.2f} ms"


def resident_mb() -> int:
    return _status_mb("VmRSS")


def peak_mb() -> int:
    return _status_mb("VmHWM")


def _status_mb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
