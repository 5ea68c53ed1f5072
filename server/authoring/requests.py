"""Requests that editors try prompts with: made of a text, or read from a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from server.core.errors import InvalidRequestError
from server.core.types import Body
from server.rendering.forms.anthropic import AnthropicForm
from server.rendering.forms.base import Form
from server.rendering.forms.chat import BatchForm, ChatForm
from server.rendering.forms.completions import CompletionsForm
from server.rendering.forms.registry import FORMS
from server.rendering.forms.responses import ResponsesForm

_MODEL = "model"
_ANSWER_TOKENS = 256


def form_for(path: str) -> Form:
    """The aligned endpoint at `path`. Raises InvalidRequestError."""
    if path not in FORMS:
        raise InvalidRequestError(f"There is no aligned endpoint {path!r}; there are {', '.join(FORMS)}.")
    return FORMS[path]


def request_of(text: str, form: Form, *, system: str | None = None) -> Body:
    """A request to the endpoint of `form` with `text` as the user's message. Raises InvalidRequestError."""
    messages = messages_of(text, system)
    if isinstance(form, CompletionsForm):
        if system is not None:
            raise InvalidRequestError(f"{form.path} has no place for a system text.")
        return {"model": _MODEL, "prompt": text}
    if isinstance(form, ResponsesForm):
        return {"model": _MODEL, "input": text} | ({} if system is None else {"instructions": system})
    if isinstance(form, AnthropicForm):
        asked = {"model": _MODEL, "max_tokens": _ANSWER_TOKENS, "messages": messages[-1:]}
        return asked | ({} if system is None else {"system": system})
    return {"model": _MODEL, "messages": [messages] if isinstance(form, BatchForm) else messages}


def messages_of(text: str, system: str | None) -> list[Body]:
    """A conversation of one user message, after a system message where there is one."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": text}]


def with_choice(body: Body, profile: str | None, scope: Mapping[str, str]) -> Body:
    """`body` asking for a profile and a scope, where they are given. Raises InvalidRequestError."""
    asked = {**({"profile": profile} if profile else {}), **({"scope": dict(scope)} if scope else {})}
    options = body.get("alignment") or {}
    if not isinstance(options, dict):
        raise InvalidRequestError("alignment must be an object.", param="alignment")
    return {**body, "alignment": {**options, **asked}} if asked else body


def parse_scope(pairs: Sequence[str]) -> Mapping[str, str]:
    """`jurisdiction=eu` and the like. Raises InvalidRequestError."""
    scope: dict[str, str] = {}
    for pair in pairs:
        dimension, separator, value = pair.partition("=")
        if not (dimension and separator and value):
            raise InvalidRequestError(f"scope is {pair!r}; write it as dimension=value, such as jurisdiction=eu.")
        scope[dimension] = value
    return scope


def read_request(path: Path, *, system: str | None = None) -> Body:
    """The request in a JSON file: a whole body, or a list of messages. Raises InvalidRequestError."""
    return _request(_parse(_read(path), str(path)), str(path), system)


def read_requests(path: Path) -> list[Body]:
    """A chat request for each line of a file that is not blank: a text, or JSON as `read_request` takes it.

    Raises InvalidRequestError.
    """
    lines = [(number, line.strip()) for number, line in enumerate(_read(path).splitlines(), 1) if line.strip()]
    return [_line(line, f"{path}:{number}") for number, line in lines]


def _line(line: str, where: str) -> Body:
    if line.startswith(("{", "[")):
        return _request(_parse(line, where), where, None)
    return request_of(line, FORMS[ChatForm.path])


def _request(value: Any, where: str, system: str | None) -> Body:
    body = {"model": _MODEL, "messages": value} if isinstance(value, list) else value
    if not isinstance(body, dict):
        raise InvalidRequestError(f"{where} must hold a request's body or a list of messages.")
    if system is None:
        return body
    if not isinstance(body.get("messages"), list):
        raise InvalidRequestError(f"{where} has no messages to put a system text before.")
    return {**body, "messages": [{"role": "system", "content": system}, *body["messages"]]}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{path} cannot be read: {error}") from error


def _parse(text: str, where: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{where} is not JSON: {error}") from error
