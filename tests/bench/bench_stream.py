"""What a stream through icalign costs over vLLM's own server: times of whole streamed answers, as a ratio in one run.

Both serve SmolLM2-135M-Instruct from the same folder and are asked in turn, so that both see the same machine. The
stock server gets the very request that icalign makes of the client's, so that both engines do the same work.

    python tests/bench/bench_stream.py
"""

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import anyio
import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.core.types import Body
from server.engine.packaged import prepare_model
from server.settings import default_cache_dir
from tests.servers import icalign_serve, vllm_serve

MODEL = "smollm2-135m-instruct"
ENGINE = ["--max-model-len", "4096", "--enforce-eager", "--no-enable-chunked-prefill"]
NUM_TOKENS = 128
NUM_ROUNDS = 12


def question(profile: str) -> Body:
    messages = [{"role": "user", "content": "How do magnets work?"}]
    limits = {"max_tokens": NUM_TOKENS, "min_tokens": NUM_TOKENS, "ignore_eos": True, "temperature": 0}
    return {"model": f"{MODEL}:{profile}", "messages": messages, "stream": True, **limits}


async def measure(client: httpx.AsyncClient, url: str, body: Body, count: int) -> tuple[float, float]:
    """Median seconds to the first chunk and to the end, of `count` streams at once."""
    firsts: list[float] = []
    totals: list[float] = []

    async def stream() -> None:
        started = time.perf_counter()
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            chunks = response.aiter_raw()
            await anext(chunks)
            firsts.append(time.perf_counter() - started)
            async for _ in chunks:
                pass
        totals.append(time.perf_counter() - started)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(stream)
    return statistics.median(firsts), statistics.median(totals)


async def compare(stock: str, ours: str) -> None:
    async with httpx.AsyncClient(timeout=300) as client:
        for profile in ("off", "default"):
            body = question(profile)
            preview = await client.post(f"{ours}/v1/alignment/render", json=body)
            same = preview.json()["body"]
            for count in (1, 8):
                ratios: list[float] = []
                first_ms: list[float] = []
                for index in range(NUM_ROUNDS + 1):
                    pairs = [(stock, same), (ours, body)]
                    found = {
                        url: await measure(client, url, asked, count) for url, asked in pairs[:: 1 - 2 * (index % 2)]
                    }
                    if index:  # the first warms both up
                        ratios.append(found[ours][1] / found[stock][1])
                        first_ms.append((found[ours][0] - found[stock][0]) * 1000)
                spread = statistics.quantiles(ratios, n=4)
                print(
                    f"{profile:>8}, {count} at once: {statistics.median(ratios):.3f} times stock vLLM "
                    f"(quartiles {spread[0]:.3f} to {spread[2]:.3f}), first chunk {statistics.median(first_ms):+.1f} ms"
                )


def main() -> None:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    folder = str(prepare_model(MODEL, default_cache_dir() / "models", report=print))
    offline = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as logs, ExitStack() as servers:
        names = ["--model", folder, "--served-model-name", MODEL]
        stock = servers.enter_context(vllm_serve([*names, *ENGINE], Path(logs) / "stock", offline))
        ours = servers.enter_context(icalign_serve(["--model", MODEL, *ENGINE], Path(logs) / "icalign"))
        anyio.run(compare, stock, ours)


if __name__ == "__main__":
    main()
