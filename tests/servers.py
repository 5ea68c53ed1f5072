"""Real servers on free ports: for streaming, disconnects and clients, which in-memory transports do not show."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

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
def icalign_serve(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run the command `icalign serve` on a free port; gives its base URL once it says that it serves."""
    with icalign_process(arguments, log, environment) as (url, _):
        yield url


@contextlib.contextmanager
def icalign_process(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`icalign_serve` for who sends signals: gives the process too."""
    command = [sys.executable, "-m", "server", "serve", "--port", "0", *arguments]
    with _run(command, log, r"^Serving .* at (http://[^/]+)/v1", environment or {}) as found:
        yield found


@contextlib.contextmanager
def vllm_serve(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run vLLM's own server on a free port; gives its base URL. `vllm serve` is this module, where it can be run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--host", "127.0.0.1"]
    with _run([*command, "--port", str(port), *arguments], log, "Application startup (complete)", environment):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _run(
    command: Sequence[str], log: Path, announcement: str, environment: Mapping[str, str]
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Gives the first group of `announcement` in the log, and the process."""
    root = Path(__file__).parent.parent
    variables = {**os.environ, **environment}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=root, env=variables, stdout=output, stderr=output) as process,
    ):
        try:
            _wait(lambda: process.poll() is not None or _announced(log, announcement) is not None)
            url = _announced(log, announcement)
            assert url is not None, f"the server ended:\n{log.read_text()[-4000:]}"
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _announced(log: Path, announcement: str) -> str | None:
    found = re.search(announcement, log.read_text(errors="replace"), re.MULTILINE)
    return found[1] if found else None


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the server took too long to start"
        time.sleep(0.05)
