"""A scripted engine that tokenises and tells log probabilities, as vLLM does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.replies import once
from server.engine.scripted import ScriptedEngine

_JSON = {"content-type": "application/json"}


class TokenEngine(ScriptedEngine):
    """A token is a word, its id the word's length; each is as likely as its length says, -1 a character."""

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        body = orjson.loads(request.content or b"{}")
        if request.path == "/tokenize":
            self.calls.append(request)
            yield _reply({"tokens": _tokens(body), "count": len(_tokens(body))})
        elif "prompt_logprobs" in body:
            self.calls.append(request)
            positions = [None, *({str(token): {"logprob": -float(token)}} for token in body["prompt"][1:])]
            yield _reply({"choices": [{"index": 0, "text": "", "prompt_logprobs": positions}]})
        else:
            async with super().open(request) as reply:
                yield reply


def _reply(body: Body) -> EngineReply:
    return EngineReply(200, _JSON, once(orjson.dumps(body)))


def _tokens(body: Body) -> list[int]:
    """A special token of id 0 first, and last where an answer is to follow."""
    texts = [message["content"] for message in body.get("messages", ())] or [body["prompt"]]
    first = [0] if body.get("add_special_tokens", True) else []
    last = [0] if "messages" in body and body.get("add_generation_prompt") else []
    return [*first, *(len(word) for text in texts for word in text.split()), *last]
