"""Maps a completion to an answer of `/v1/messages`: a message of one block of text."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from server.core.types import Body
from server.rendering.completed import Completed, Usage, map_stream, read_completed

_STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}


def to_message(body: Body, stops: Sequence[str]) -> Body:
    """A whole completion as a message. `stops` are the client's. Raises EngineError where it is no completion."""
    answer = read_completed(body)
    content = [{"type": "text", "text": answer.text}]
    return {**_head(answer), "content": content, **_end(answer, stops), "usage": _usage(answer.usage)}


def to_message_events(events: AsyncIterator[Body], stops: Sequence[str]) -> AsyncIterator[Body]:
    """A completion stream as that of a message. An error event passes as it is. Raises EngineError."""
    return map_stream(events, _Messages(stops))


@dataclass(frozen=True)
class _Messages:
    """The events of a message."""

    stops: Sequence[str]

    def opening(self, answer: Completed) -> Sequence[Body]:
        empty: Body = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(answer.usage)}
        return [
            {"type": "message_start", "message": {**_head(answer), **empty}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ]

    def more(self, answer: Completed) -> Body:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": answer.text}}

    def closing(self, answer: Completed) -> Sequence[Body]:
        return [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": _end(answer, self.stops), "usage": _usage(answer.usage)},
            {"type": "message_stop"},
        ]


def _head(answer: Completed) -> Body:
    return {"id": f"msg_{answer.id}", "type": "message", "role": "assistant", "model": answer.model}


def _end(answer: Completed, stops: Sequence[str]) -> Body:
    """Why it ended. A stop string that is not the client's is the end of the answer's block: the turn's end."""
    if answer.stop in stops:
        return {"stop_reason": "stop_sequence", "stop_sequence": answer.stop}
    return {"stop_reason": _STOP_REASONS.get(answer.finish_reason or "stop", "end_turn"), "stop_sequence": None}


def _usage(usage: Usage | None) -> Body:
    """What came from the cache or went there is not among the input tokens here. Zeros while it is not known."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cache = {
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }
    told = {name: tokens for name, tokens in cache.items() if tokens is not None}
    fresh_tokens = max(0, usage.prompt_tokens - sum(told.values()))
    return {"input_tokens": fresh_tokens, "output_tokens": usage.completion_tokens, **told}
