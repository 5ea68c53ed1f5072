"""What a request through icalign costs, as ratios in one run: straight to a server, and through upstream mode.

A trivial server stands behind, so that the whole difference is ours. Also compares httpx's own transport with the one
in use.

    python tests/bench/bench_upstream.py
"""

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport
from starlette.types import Receive, Scope, Send

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.engine.base import EngineRequest
from server.engine.upstream import UpstreamEngine
from tests.servers import icalign_serve, served

NUM_REQUESTS = 1500
NUM_CONNECTIONS = 32
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
ANSWER = orjson.dumps({"object": "chat.completion", "choices": [CHOICE], "data": [{"id": "m"}]})
LIMITS = httpx.Limits(max_connections=NUM_CONNECTIONS)


async def backend(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers everything, the list of models too, with the same body."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": ANSWER})


async def rate(call: Callable[[], Awaitable[None]]) -> float:
    """Requests a second over NUM_CONNECTIONS workers."""
    left = NUM_REQUESTS

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(NUM_CONNECTIONS):
            tasks.start_soon(work)
    return NUM_REQUESTS / (time.perf_counter() - started)


async def measure_clients(url: str, front: str) -> None:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "How do magnets work?"}]})
    headers = {"content-type": "application/json"}
    rates: dict[str, float] = {}
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=LIMITS)) as client:
        for name, base, profile in (("straight", url, ""), ("off", front, "off"), ("default", front, "default")):
            chosen = headers | ({"x-alignment-profile": profile} if profile else {})

            async def call(base: str = base, chosen: dict[str, str] = chosen) -> None:
                (await client.post(f"{base}/v1/chat/completions", content=body, headers=chosen)).raise_for_status()

            await rate(call)  # warm up
            rates[name] = await rate(call)
    for name, value in rates.items():
        print(f"{name:>10}: {value:7.0f} requests/s, {rates['straight'] / value:5.1f} times straight")


async def measure_transports(url: str) -> None:
    request = EngineRequest("/v1/chat/completions", b"{}")
    transports = {"aiohttp": AiohttpTransport(limits=LIMITS), "httpx": httpx.AsyncHTTPTransport(limits=LIMITS)}
    for name, transport in transports.items():
        engine = UpstreamEngine(f"{url}/v1", transport=transport)

        async def call(engine: UpstreamEngine = engine) -> None:
            async with engine.open(request) as reply:
                await reply.read()

        async with engine.running():
            await rate(call)
            print(f"engine over {name:>8}: {await rate(call):7.0f} requests/s")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, served(backend) as url:
        with icalign_serve(["--upstream", f"{url}/v1"], Path(folder) / "log") as front:
            anyio.run(measure_clients, url, front)
        anyio.run(measure_transports, url)


if __name__ == "__main__":
    main()
