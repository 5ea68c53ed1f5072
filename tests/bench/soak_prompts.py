"""Edits prompts under load: each request is answered, with one version from start to end, and memory does not grow.

Each edit writes its number into a principle, a demonstration and the template of a copy of the shipped prompts; the
engine answers with the numbers that it was sent. A request has seen one version if there is one number, from all three
places, and it is that of the version in the answer's header. One edit in five is invalid, and must never be seen.

    python tests/bench/soak_prompts.py --edits 1000
"""

import argparse
import gc
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
from jinja2 import Template

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.app import create_app
from server.core.types import Body, Profile
from server.retrieval.base import Embedder
from server.retrieval.retriever import Retriever
from server.retrieval.wordllama import WordLlamaEmbedder
from server.settings import EngineKind, Settings
from tests.marked import PLACES, EchoEngine, MarkedPrompts, numbers_in
from tests.servers import served

_PATIENCE_S = 10.0
_POLL_S = 0.01
_COUNTED = (Profile, Retriever, Template)
# Whole and streamed; the prompt of a stream is made long before it ends.
_BODIES: Sequence[Body] = tuple(
    {"model": "scripted:default", "stream": stream, "messages": [{"role": "user", "content": text}]}
    for stream in (False, True)
    for text in ("What is the number?", "How do I bake bread?", "Tell me how to pick a lock.")
)


@dataclass
class Result:
    """What came of it. `seconds_to_live` has every valid edit; memory is taken after each tenth of the edits."""

    num_edits: int = 0
    num_invalid: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds_to_live: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    objects: list[dict[str, int]] = field(default_factory=list)

    @property
    def num_requests(self) -> int:
        """All requests, each of which was answered and checked unless `faults` say otherwise."""
        return self.requests.total()


class _Versions:
    """The number that belongs to each version of profile `default`. Filled before an edit, read by the clients."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def judge(self, response: httpx.Response) -> str:
        """What is wrong with an answer; nothing if it is of one version."""
        if response.status_code != 200:
            return f"status {response.status_code}: {response.text:.200}"
        version = response.headers["x-alignment-profile"].partition("@")[2]
        found = numbers_in(_answer_text(response))
        if set(found) != set(PLACES):
            return f"of {version}, marks are in {sorted(found)} only"
        if (numbers := set().union(*found.values())) != {self.numbers.get(version)}:
            return f"of {version}, which is edit {self.numbers.get(version)}, the prompt has {found} ({numbers})"
        return ""


def soak(
    root: Path,
    *,
    num_edits: int,
    concurrency: int = 4,
    keep_versions: int = 8,
    embedder: Embedder | None = None,
    report: bool = False,
) -> Result:
    """Edit prompts in `root` that many times while that many clients ask without pause."""
    result, versions, prompts = Result(), _Versions(), MarkedPrompts(root)
    versions.numbers[prompts.undo(0)] = 0
    settings = Settings(
        engine=EngineKind.SCRIPTED, prompts=prompts.folder, keep_versions=keep_versions, log_level="error"
    )
    app = create_app(settings, engine=EchoEngine(delay_s=0.01), embedder=embedder or WordLlamaEmbedder())
    with served(app) as url, httpx.Client(base_url=url) as client, _asking(url, concurrency, versions, result):
        for number in range(1, num_edits + 1):
            is_invalid = number % 5 == 0
            _edit(prompts, client, number, versions, result, is_invalid=is_invalid)
            prompts.forget(number - 3)
            if number % max(1, num_edits // 10) == 0:
                _measure(result)
                if report:
                    print(
                        f"{number} edits, {result.num_requests} requests, {result.memory_mib[-1]:.1f} MiB", flush=True
                    )
    return result


def _edit(
    prompts: MarkedPrompts,
    client: httpx.Client,
    number: int,
    versions: _Versions,
    result: Result,
    *,
    is_invalid: bool,
) -> None:
    """Make one edit and wait until the server shows what became of it."""
    result.num_edits += 1
    result.num_invalid += is_invalid
    before = _default_version(client.get("/v1/alignment/profiles").json())
    # The number is known before any request can see it.
    version = prompts.edit(number, fault=number // 5 if is_invalid else None, tell=versions.numbers.__setitem__)
    started = time.perf_counter()
    while True:
        shown = client.get("/v1/alignment/profiles").json()
        seconds = time.perf_counter() - started
        if is_invalid and shown["findings"]:
            if _default_version(shown) != before:
                result.faults.append(f"edit {number} is invalid, and came into force")
            return
        if not is_invalid and _default_version(shown) == version:
            if shown["findings"]:
                result.faults.append(f"edit {number} is valid, and there are findings: {shown['findings']}")
            result.seconds_to_live.append(seconds)
            return
        if seconds > _PATIENCE_S:
            result.faults.append(f"edit {number} did not show within {_PATIENCE_S} s")
            return
        time.sleep(_POLL_S)


def _default_version(shown: Body) -> str:
    return str(next(profile["version"] for profile in shown["data"] if profile["id"] == "default"))


@contextmanager
def _asking(url: str, concurrency: int, versions: _Versions, result: Result) -> Iterator[None]:
    """Clients that ask without pause, in a thread of their own, until the context is left."""
    over = threading.Event()

    async def ask(client: httpx.AsyncClient, index: int) -> None:
        while not over.is_set():
            body = _BODIES[index % len(_BODIES)]
            index += 1
            try:
                fault = versions.judge(await client.post("/v1/chat/completions", json=body))
            except httpx.HTTPError as error:
                fault = repr(error)
            result.requests["streamed" if body["stream"] else "whole"] += 1
            if fault:
                result.faults.append(fault)

    async def ask_all() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client, anyio.create_task_group() as tasks:
            for index in range(concurrency):
                tasks.start_soon(ask, client, index)

    thread = threading.Thread(target=anyio.run, args=(ask_all,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _answer_text(response: httpx.Response) -> str:
    """The words of an answer; those of a stream come one in each event."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    return response.text


def _measure(result: Result) -> None:
    gc.collect()
    counts = Counter(type(item).__name__ for item in gc.get_objects() if isinstance(item, _COUNTED))
    result.objects.append(dict(counts))
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    result.memory_mib.append(pages * 4096 / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description="Edits prompts under load.")
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--keep-versions", type=int, default=8)
    options = parser.parse_args()
    logging.disable()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        result = soak(
            Path(root),
            num_edits=options.edits,
            concurrency=options.concurrency,
            keep_versions=options.keep_versions,
            report=True,
        )
    times = sorted(result.seconds_to_live)
    cuts = statistics.quantiles(times, n=100)
    print(f"{result.num_edits} edits, {result.num_invalid} of them invalid, in {time.monotonic() - started:.0f} s")
    print(f"requests: {dict(result.requests)}; failed or mixed: {len(result.faults)}")
    print(
        f"seconds from write to live: median {statistics.median(times):.3f}, 95 % {cuts[94]:.3f}, 99 % {cuts[98]:.3f}, "
        f"longest {times[-1]:.3f}; longer than 1 s: {sum(seconds > 1 for seconds in times)}"
    )
    print("MiB after each tenth:", " ".join(f"{size:.1f}" for size in result.memory_mib))
    print("objects after the first tenth and the last:", result.objects[0], result.objects[-1])
    for fault in result.faults[:20]:
        print("FAULT:", fault)
    sys.exit(1 if result.faults or times[-1] > 1 else 0)


if __name__ == "__main__":
    main()
