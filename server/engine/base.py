"""The engine boundary: an OpenAI request goes in, the engine's own answer comes out as bytes.

An engine knows nothing of alignment. What it answers, errors included, is passed on as it is.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class EngineRequest:
    """One call on the OpenAI surface, for instance of path `/v1/chat/completions`, which may have a query.

    `content` is empty, or JSON unless `headers` have another content type.

    Header values are text as ASGI servers give it: one character for each byte (latin-1).
    """

    path: str
    content: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineReply:
    """The engine's answer as it begins: status and lower-case headers are known, the body is still arriving.

    Each chunk of a streamed answer is given as soon as the engine makes it; chunks need not end with an event.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of server-sent events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def read(self) -> bytes:
        """The whole body. Call once, and not after `chunks` was used."""
        return b"".join([chunk async for chunk in self.chunks])


class Engine(Protocol):
    """Runs prompts."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Start the engine; leaving the context stops it. Raises EngineStartError."""
        ...

    def open(self, request: EngineRequest) -> AbstractAsyncContextManager[EngineReply]:
        """Send `request`. Leaving the context before the answer is complete aborts the request in the engine.

        Raises EngineUnavailableError, EngineTimeoutError or NotOfferedError; an engine's own error answer is a reply.
        """
        ...

    async def check(self) -> None:
        """Raise EngineUnavailableError where this process can no longer serve and should be replaced."""
        ...
