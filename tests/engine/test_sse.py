from collections.abc import AsyncIterator
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import EngineError, EngineUnavailableError
from server.core.types import Body
from server.engine.sse import parse_events

STREAM = (
    b': a comment\n\ndata: {"a": 1}\n\ndata:{"b":\ndata: 2}\r\n\r\n'
    b'event: x\rdata: {"c": "\xc3\xa9"}\r\rdata: [DONE]\n\ndata: {"late": 1}\n\n'
)
EVENTS = [{"a": 1}, {"b": 2}, {"c": "é"}]


def parse(chunks: list[bytes]) -> list[Body]:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def collect() -> list[Body]:
        return [event async for event in parse_events(source())]

    return anyio.run(collect)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_events_do_not_depend_on_where_chunks_are_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(edges)]
    assert parse(chunks) == EVENTS


def test_a_last_event_without_its_end_still_counts() -> None:
    finished = b'{"choices":[{"finish_reason":"stop"}]}'
    assert parse([b"data: " + finished]) == [{"choices": [{"finish_reason": "stop"}]}]
    assert parse([b"data: [DONE]"]) == []


@pytest.mark.parametrize("stream", [b"", b'data: {"choices":[{"finish_reason":null}]}\n\n'])
def test_a_stream_that_breaks_off_does_not_look_complete(stream: bytes) -> None:
    with pytest.raises(EngineUnavailableError):
        parse([stream])


@pytest.mark.parametrize("payload", [b"nonsense", b"[1]", b"1"])
def test_an_event_that_is_no_object_is_the_engines_fault(payload: bytes) -> None:
    with pytest.raises(EngineError):
        parse([b"data: " + payload + b"\n\n"])
