"""What an engine says of its models: the list, and how many tokens each takes."""

import time
from collections.abc import Mapping
from contextlib import suppress

import anyio
import orjson

from server.core.errors import EngineError
from server.core.types import Body
from server.engine.base import Engine, EngineReply, EngineRequest

_RETRY_S = 60.0
_PATIENCE_S = 5.0


class Windows:
    """Each model's window, prompt and answer together, from the engine's list of models.

    `configured` replaces what the engine says, which only some engines do.
    """

    def __init__(self, engine: Engine, *, configured: int | None = None) -> None:
        self._engine = engine
        self._configured = configured
        self._known: Mapping[str, int | None] = {}
        self._asked_s = float("-inf")

    async def of(self, model: str | None, headers: Mapping[str, str]) -> int | None:
        """Tokens that `model` takes, or None where that is not known. No `model` means the engine's first."""
        if self._configured is not None:
            return self._configured
        if (model or not self._known) and model not in self._known and time.monotonic() - self._asked_s > _RETRY_S:
            self._asked_s = time.monotonic()
            # A list that cannot be had, be it that this caller may not, says nothing against what is known.
            self._known = await self._ask(headers) or self._known
        return self._known.get(model or next(iter(self._known), ""))

    async def _ask(self, headers: Mapping[str, str]) -> Mapping[str, int | None]:
        entries: list[Body] = []
        with anyio.move_on_after(_PATIENCE_S), suppress(EngineError):
            async with self._engine.open(list_request(headers)) as reply:
                entries = await read_models(reply) if reply.status == 200 else []
        return {entry["id"]: _window(entry) for entry in entries}


def list_request(headers: Mapping[str, str]) -> EngineRequest:
    """The request for an engine's models."""
    return EngineRequest("/v1/models", method="GET", headers=headers)


async def read_models(reply: EngineReply) -> list[Body]:
    """The entries of an engine's list of models. Raises EngineError where it is none."""
    try:
        entries = orjson.loads(await reply.read())["data"]
    except (ValueError, LookupError, TypeError) as error:
        raise EngineError("The engine's list of models is not in OpenAI's form.") from error
    if not isinstance(entries, list) or not all(isinstance(e, dict) and isinstance(e.get("id"), str) for e in entries):
        raise EngineError("The engine's list of models is not in OpenAI's form.")
    return entries


def _window(entry: Body) -> int | None:
    window = entry.get("max_model_len")
    return window if isinstance(window, int) and window > 0 else None
