"""An engine that replays a script and records what it was asked: for tests, and for trying prompts without a model."""

import re
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import anyio
import orjson
import yaml
from pydantic import TypeAdapter

from server.core.errors import ConfigurationError, NotOfferedError
from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest

_PATHS = frozenset({"/v1/chat/completions", "/v1/chat/completions/batch", "/v1/completions"})
_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


@dataclass(frozen=True)
class ScriptedAnswer:
    """What to answer when `match`, a regular expression, is found in the text of the prompt's last message.

    `delay_s` passes before each word of a stream. A `status` other than 200 makes an error of the text.
    """

    text: str
    match: str = ""
    status: int = 200
    delay_s: float = 0.0


_DEFAULT = ScriptedAnswer("This is a scripted answer; no model was asked.")
_MALFORMED = ScriptedAnswer("messages must be a list of objects, prompt a string, and n 1 to 128.", status=400)


class ScriptedEngine:
    """Answers with the first entry of `answers` that matches; `calls` keeps the last thousand requests it answered."""

    def __init__(self, answers: Sequence[ScriptedAnswer] = (), *, model: str = "scripted") -> None:
        self._answers = (*answers, _DEFAULT)
        self._model = model
        self.calls: deque[EngineRequest] = deque(maxlen=1000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nothing to start."""
        yield

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        """Replay. Raises NotOfferedError for other endpoints than chat, completions and the list of models."""
        if (request.method, request.path) == ("GET", "/v1/models"):
            yield EngineReply(200, _JSON, _once({"object": "list", "data": [{"id": self._model, "object": "model"}]}))
            return
        if request.path not in _PATHS:
            raise NotOfferedError(request.path)
        self.calls.append(request)
        body = self._named(_parse(request.content))
        answers = [self._choose(text) for text in _last_texts(body)] if _is_request(body) else [_MALFORMED]
        failed = next((answer for answer in answers if answer.status != 200), None)
        is_chat = request.path != "/v1/completions"
        if failed is not None:
            yield EngineReply(failed.status, _JSON, _once(_error(failed)))
        elif body.get("stream"):
            yield EngineReply(200, _EVENTS, _stream(answers, body, is_chat=is_chat))
        else:
            yield EngineReply(200, _JSON, _once(_whole(answers, body, is_chat=is_chat)))

    async def check(self) -> None:
        """Always well."""

    def _named(self, body: Any) -> Any:
        """`body` with a model to name in the answer."""
        is_named = not isinstance(body, dict) or isinstance(body.get("model"), str)
        return body if is_named else {**body, "model": self._model}

    def _choose(self, text: str) -> ScriptedAnswer:
        return next(answer for answer in self._answers if re.search(answer.match, text))


def load_script(path: Path) -> list[ScriptedAnswer]:
    """Read a YAML list of `{text, match, status, delay_s}`. Raises ConfigurationError naming the entry at fault."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"script: {path} cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise ConfigurationError(f"script: {path} must hold a list of answers.")
    return [_parse_answer(path, index, entry) for index, entry in enumerate(entries)]


def _parse_answer(path: Path, index: int, entry: Any) -> ScriptedAnswer:
    try:
        answer = TypeAdapter(ScriptedAnswer).validate_python(entry)
        re.compile(answer.match)
    except (ValueError, re.error) as error:
        raise ConfigurationError(f"script: {path}: answer {index}: {error}") from error
    return answer


def _parse(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def _is_request(body: Any) -> bool:
    """Whether `body` is a request as far as this engine reads it."""
    if not isinstance(body, dict) or body.get("n") not in (None, *range(1, 129)):
        return False
    return all(isinstance(message, dict) for messages in _conversations(body) for message in messages)


def _conversations(body: Body) -> list[list[Any]]:
    """The messages of a chat request, of each conversation of a batch, or each prompt of a completion as one."""
    messages = body.get("messages") or []
    if not isinstance(messages, list):
        return [[None]]
    if messages and isinstance(messages[0], list):
        return messages
    prompt = body.get("prompt", "")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    return [messages] if messages else [[{"content": text}] for text in prompts]


def _last_texts(body: Body) -> list[str]:
    """Those to answer. The message that an answer goes on with is not one of them."""
    end = -1 if body.get("continue_final_message") else None
    return [_text(messages[-1]) if messages else "" for messages in (all_[:end] for all_ in _conversations(body))]


def _text(message: Body) -> str:
    content = message.get("content", "")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


async def _once(body: Body) -> AsyncIterator[bytes]:
    yield orjson.dumps(body)


def _error(answer: ScriptedAnswer) -> Body:
    return {"error": {"message": answer.text, "type": "scripted_error", "param": None, "code": answer.status}}


def _head(body: Body, *, is_chat: bool, chunk: bool) -> Body:
    kind = ("chat.completion.chunk" if chunk else "chat.completion") if is_chat else "text_completion"
    identifier = "chatcmpl-scripted" if is_chat else "cmpl-scripted"
    return {"id": identifier, "object": kind, "created": int(time.time()), "model": body.get("model")}


def _usage(answers: Sequence[ScriptedAnswer], body: Body) -> Body:
    """Counts words, since there is no tokenizer here."""
    texts = [str(message.get("content", "")) for messages in _conversations(body) for message in messages]
    prompt = sum(len(text.split()) for text in texts)
    completion = sum(len(answer.text.split()) for answer in answers) * (body.get("n") or 1)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _repeated(answers: Sequence[ScriptedAnswer], body: Body) -> list[ScriptedAnswer]:
    """The answer of each choice: `n` to each prompt, one after the other."""
    return [answer for answer in answers for _ in range(body.get("n") or 1)]


def _whole(answers: Sequence[ScriptedAnswer], body: Body, *, is_chat: bool) -> Body:
    choices = [
        {"index": index, "finish_reason": "stop", **_content(answer.text, is_chat=is_chat)}
        for index, answer in enumerate(_repeated(answers, body))
    ]
    return {**_head(body, is_chat=is_chat, chunk=False), "choices": choices, "usage": _usage(answers, body)}


def _content(text: str, *, is_chat: bool) -> Body:
    return {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}


def _deltas(answer: ScriptedAnswer, *, is_chat: bool) -> Iterator[Body]:
    words = re.findall(r"\S+\s*|\s+", answer.text)
    if not is_chat:
        yield from ({"text": word, "finish_reason": None} for word in words)
        yield {"text": "", "finish_reason": "stop"}
        return
    yield {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    yield from ({"delta": {"content": word}, "finish_reason": None} for word in words)
    yield {"delta": {}, "finish_reason": "stop"}


async def _stream(answers: Sequence[ScriptedAnswer], body: Body, *, is_chat: bool) -> AsyncIterator[bytes]:
    """Word by word, all choices side by side."""
    head = _head(body, is_chat=is_chat, chunk=True)
    delay_s = max(answer.delay_s for answer in answers)
    for deltas in zip_longest(*(_deltas(answer, is_chat=is_chat) for answer in _repeated(answers, body))):
        await anyio.sleep(delay_s)
        choices = [{"index": index, **delta} for index, delta in enumerate(deltas) if delta is not None]
        yield b"data: " + orjson.dumps({**head, "choices": choices}) + b"\n\n"
    if (body.get("stream_options") or {}).get("include_usage"):
        yield b"data: " + orjson.dumps({**head, "choices": [], "usage": _usage(answers, body)}) + b"\n\n"
    yield b"data: [DONE]\n\n"
