from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.engine import models
from server.engine.base import EngineReply, EngineRequest
from server.engine.models import Windows
from server.engine.replies import once
from server.engine.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio


class ListingEngine(ScriptedEngine):
    """Lists one model to who has the key, once only."""

    num_asked = 0

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        self.num_asked += 1
        is_known = request.headers.get("authorization") == "Bearer k"
        content = b'{"data": [{"id": "m", "max_model_len": 2048}]}' if is_known else b"{}"
        yield EngineReply(200 if is_known else 401, {}, once(content))


async def test_a_list_that_cannot_be_had_leaves_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_RETRY_S", -1.0)
    engine = ListingEngine()
    windows = Windows(engine)
    assert await windows.of("m", {}) is None
    assert await windows.of("m", {"authorization": "Bearer k"}) == 2048
    assert await windows.of("other", {}) is None
    assert engine.num_asked == 3
    assert await windows.of("m", {}) == 2048
