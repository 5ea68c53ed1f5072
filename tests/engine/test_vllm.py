"""The parts of the vLLM engine that need no engine: its bridge to an application that fails, and its arguments."""

import os
import signal

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from server.core.errors import ConfigurationError, EngineUnavailableError
from server.engine import vllm
from server.engine.base import EngineRequest
from server.engine.vllm import VllmEngine
from tests.engine.test_contract import BridgedEngine

pytestmark = pytest.mark.anyio


class Failing:
    """An application that fails before its answer, or in the middle of it."""

    def __init__(self, *, after_start: bool) -> None:
        self.app = self
        self._after_start = after_start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if self._after_start:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")


async def test_a_failure_before_the_answer_is_unavailability() -> None:
    engine = BridgedEngine(Failing(after_start=False))  # type: ignore[arg-type]
    async with engine.running():
        with pytest.raises(EngineUnavailableError, match="without an answer"):
            async with engine.open(EngineRequest("/x")):
                pass


async def test_a_failure_in_the_middle_ends_the_chunks_with_an_error() -> None:
    engine = BridgedEngine(Failing(after_start=True))  # type: ignore[arg-type]
    async with engine.running(), engine.open(EngineRequest("/x")) as reply:
        assert await anext(reply.chunks) == b"half"
        with pytest.raises(EngineUnavailableError, match="in the middle"):
            await anext(reply.chunks)


class Asked:
    """An application that answers nothing and keeps what it was asked."""

    def __init__(self) -> None:
        self.scope: Scope = {}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_a_query_is_no_part_of_the_path() -> None:
    asked = Asked()
    engine = BridgedEngine(asked)  # type: ignore[arg-type]
    async with engine.running(), engine.open(EngineRequest("/x?stream=true", method="GET")):
        pass
    assert (asked.scope["path"], asked.scope["raw_path"]) == ("/x", b"/x")
    assert asked.scope["query_string"] == b"stream=true"


@pytest.mark.parametrize(
    ("given", "seen"), [({}, b"application/json"), ({"content-type": "text/plain"}, b"text/plain")]
)
async def test_the_engine_sees_the_content_type_that_is_given(given: dict[str, str], seen: bytes) -> None:
    asked = Asked()
    engine = BridgedEngine(asked)  # type: ignore[arg-type]
    async with engine.running(), engine.open(EngineRequest("/x", b"5", headers=given)):
        pass
    headers = dict(asked.scope["headers"])
    assert (headers[b"content-type"], headers[b"content-length"]) == (seen, b"1")


async def test_an_application_that_ignores_the_disconnect_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn:
        ended = False

        async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await anyio.sleep(60)
            finally:
                Stubborn.ended = True

    monkeypatch.setattr(vllm, "_ABORT_GRACE_S", 0.05)
    engine = BridgedEngine(Stubborn())  # type: ignore[arg-type]
    async with engine.running():
        with anyio.fail_after(5):
            async with engine.open(EngineRequest("/x")):
                pass
            while not Stubborn.ended:
                await anyio.sleep(0.01)
    assert Stubborn.ended


def test_a_dead_engine_stops_the_process_as_an_operator_would(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    server = vllm._ProcessServer()
    server.should_exit = False
    assert sent == []
    server.should_exit = True
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_a_missing_vllm_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "vllm.entrypoints.launchers.cli_args", None)
    with pytest.raises(ConfigurationError, match="icalign\\[cpu\\] or icalign\\[gpu\\]"):
        VllmEngine("m")


@pytest.mark.parametrize(
    ("num_processors", "given", "reserved"), [(1, None, "0"), (2, None, "0"), (2, "1", "1"), (3, None, None)]
)
def test_few_processors_all_compute(
    monkeypatch: pytest.MonkeyPatch, num_processors: int, given: str | None, reserved: str | None
) -> None:
    name = "VLLM_CPU_NUM_OF_RESERVED_CPU"
    monkeypatch.setenv(name, given or "")  # so that it is as before in the end
    if given is None:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: num_processors)
    vllm._compute_on_all_of_few_processors()
    assert os.environ.get(name) == reserved


@pytest.mark.parametrize(("capability", "wanted"), [("AVX2", "float32"), ("AVX512", "auto"), ("DEFAULT", "auto")])
def test_no_cpu_emulates_bfloat16(monkeypatch: pytest.MonkeyPatch, capability: str, wanted: str) -> None:
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert vllm.cpu_dtype() == wanted


@pytest.mark.parametrize(("given", "kept"), [("icalign", ""), ("other,icalign", "other"), ("other", "other")])
def test_icalign_is_no_plugin_of_its_own_engine(monkeypatch: pytest.MonkeyPatch, given: str, kept: str) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", given)
    vllm._keep_own_plugin_out()
    assert os.environ["VLLM_PLUGINS"] == kept
