"""Reads what the completions endpoint answers, for endpoints whose answers have another form than chat's."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from server.core.errors import EngineError
from server.core.types import Body


@dataclass(frozen=True)
class Usage:
    """Counts of tokens; of the prompt's, how many came from a cache and went to it, where the engine says so."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    cache_write_tokens: int | None


@dataclass(frozen=True)
class Completed:
    """A completion of one choice. Of a stream, one event's text with all the rest as far as it is known by then.

    `id` has no prefix, and `stop` is the stop string that ended the text.
    """

    id: str
    model: str
    created: int
    text: str
    finish_reason: str | None
    stop: str | None
    usage: Usage | None


class StreamMapping(Protocol):
    """What the events of another endpoint's stream are."""

    def opening(self, answer: Completed) -> Iterable[Body]:
        """Those before all text."""
        ...

    def more(self, answer: Completed) -> Body:
        """The one for a piece of text."""
        ...

    def closing(self, answer: Completed) -> Iterable[Body]:
        """Those after all text, which `answer` has whole."""
        ...


@contextmanager
def engine_form() -> Iterator[None]:
    """Raises EngineError for what goes wrong inside where an answer does not have the form that it should."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise EngineError("The engine's answer is not a completion in OpenAI's form.") from error


def read_completed(body: Body) -> Completed:
    """A whole answer. Raises EngineError where it is no completion."""
    with engine_form():
        return _read(body, body["choices"][0])


async def map_stream(events: AsyncIterator[Body], mapping: StreamMapping) -> AsyncIterator[Body]:
    """The stream of a completion as that of another endpoint, which begins when the engine's does.

    An error event passes as it is, as the last one. Raises EngineError where the stream is none of a completion.
    """
    answer: Completed | None = None
    texts: list[str] = []
    async for event in events:
        if event.get("error"):
            yield event
            return
        is_first, answer = answer is None, _read_event(event, answer)
        if is_first:
            for opening in mapping.opening(answer):
                yield opening
        if answer.text:
            texts.append(answer.text)
            yield mapping.more(answer)
    if answer is None:
        raise EngineError("The engine's stream ended before it began.")
    for closing in mapping.closing(replace(answer, text="".join(texts))):
        yield closing


def _read_event(event: Body, before: Completed | None) -> Completed:
    """The event that tells usage has no choice."""
    with engine_form():
        piece = _read(event, next(iter(event["choices"]), {}))
    if before is None:
        return piece
    ended = piece if piece.finish_reason else before
    return replace(
        before, text=piece.text, finish_reason=ended.finish_reason, stop=ended.stop, usage=piece.usage or before.usage
    )


def _read(body: Body, choice: Body) -> Completed:
    stop = choice.get("stop_reason")
    return Completed(
        id=re.sub("^cmpl-", "", body["id"]),
        model=body["model"],
        created=body["created"],
        text=choice.get("text") or "",
        finish_reason=choice.get("finish_reason"),
        stop=stop if isinstance(stop, str) else None,
        usage=_read_usage(body["usage"]) if body.get("usage") else None,
    )


def _read_usage(usage: Body) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=details.get("cached_tokens"),
        cache_write_tokens=details.get("created_cache_tokens"),
    )
