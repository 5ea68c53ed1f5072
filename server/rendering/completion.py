"""Completion rendering for base models: one text of fenced, headed blocks, its answer mapped back to a chat answer."""

import re
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from jinja2 import Template

from server.core.errors import InvalidRequestError
from server.core.types import Body, Exchange, Profile, Selection
from server.rendering.completed import engine_form
from server.rendering.context import demonstrated, render
from server.rendering.forms.base import Conversation, Form
from server.rendering.messages import TEXT_PARTS, split_system, text_of, with_defaults
from server.rendering.sanitise import FENCE, Sanitiser

STOPS = ("\n" + FENCE, FENCE, "\n# Query:", "\n# Answer:")
"""Ends an answer: the fence that closes its block, or the heading of another block where a model forgets the fence."""

# Engines take no more. The client's come first; of ours, the first is the one that ends nearly every answer.
_MAX_STOPS = 4
# A completion has them in its choices, a chat answer beside them.
_PROMPT_FIELDS = ("prompt_logprobs", "prompt_token_ids")


def render_completion(
    form: Form,
    profile: Profile,
    template: Template,
    selections: Sequence[Selection],
    body: Body,
    sanitiser: Sanitiser,
) -> Body:
    """A request for `/v1/completions`, with one selection and so one prompt for each conversation of `body`.

    Raises InvalidRequestError for what it cannot carry.
    """
    continues = bool(body.get("continue_final_message"))
    prompts = [
        _prompt(form, profile, template, selection, messages, sanitiser, continues=continues)
        for selection, messages in zip(selections, form.read(body), strict=True)
    ]
    fields = form.write_completion(body, prompts)
    return {**with_defaults(fields, profile, ("max_tokens",)), "stop": _stops(fields)}


def _prompt(
    form: Form,
    profile: Profile,
    template: Template,
    selection: Selection,
    messages: Conversation,
    sanitiser: Sanitiser,
    *,
    continues: bool,
) -> str:
    system, rest = split_system(messages)
    exchanges, question, opening = _read_history(rest, form.messages_field, continues=continues)
    text = render(
        template,
        profile,
        selection,
        sanitiser,
        demonstrations=demonstrated(selection),
        system=system,
        exchanges=exchanges,
        question=question,
        reminder=selection.reminder,
    )
    return text + sanitiser.fenced(opening or selection.opening)


def to_chat(body: Body, *, num_top: int) -> Body:
    """A completion answer as a chat answer; fields both share stay as they are. Raises EngineError where it is none."""
    with engine_form():
        choices = [_chat_choice(choice, num_top) for choice in body["choices"]]
        about_prompt = _prompt_fields(body["choices"])
    return {**body, **about_prompt, "id": _chat_id(body), "object": "chat.completion", "choices": choices}


async def to_chat_events(events: AsyncIterator[Body], *, num_top: int) -> AsyncIterator[Body]:
    """A completion stream as a chat stream, event by event. An error event passes as it is. Raises EngineError."""
    started: set[int] = set()
    async for event in events:
        if event.get("error"):
            yield event
            continue
        with engine_form():
            choices = [_chat_delta(choice, num_top, started) for choice in event["choices"]]
            about_prompt = _prompt_fields(event["choices"])
        yield {**event, **about_prompt, "id": _chat_id(event), "object": "chat.completion.chunk", "choices": choices}


def _chat_delta(choice: Body, num_top: int, started: set[int]) -> Body:
    role = {} if choice["index"] in started else {"role": "assistant"}
    started.add(choice["index"])
    mapped = _chat_choice(choice, num_top)
    mapped["delta"] = {**role, "content": mapped.pop("message")["content"]}
    return mapped


def _read_history(messages: Sequence[Body], field: str, *, continues: bool) -> tuple[list[Exchange], str, str]:
    """Past exchanges, the question to answer, and the opening of the answer where the client has written one."""
    texts = [(message["role"], _text_only(message, f"{field}[{index}]")) for index, message in enumerate(messages)]
    runs = groupby(texts, key=itemgetter(0))
    turns = [(role, "\n\n".join(filter(None, (text for _, text in run)))) for role, run in runs]
    opening = turns.pop()[1] if continues and turns and turns[-1][0] == "assistant" else ""
    if not turns or turns[-1][0] != "user":
        raise InvalidRequestError("The last message must be the user's.", param=field)
    question = turns.pop()[1]
    if turns and turns[0][0] == "assistant":
        turns.insert(0, ("user", ""))
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return [Exchange(user, assistant) for (_, user), (_, assistant) in pairs], question, opening


def _text_only(message: Body, where: str) -> str:
    parts = message["content"] if isinstance(message.get("content"), list) else []
    if any(part.get("type", "text") not in TEXT_PARTS or "text" not in part for part in parts):
        raise InvalidRequestError(f"{where} has a part that is not text; this profile renders text.", param=where)
    if message["role"] not in {"user", "assistant"} or message.get("tool_calls"):
        raise InvalidRequestError(
            f"{where} is part of a tool call or a late system message; this profile renders for a base model, "
            "which has neither.",
            param=where,
        )
    return text_of(message)


def _stops(body: Body) -> list[str]:
    """The client's stop sequences, and as many of STOPS as there is room for."""
    if body.get("include_stop_str_in_output"):
        raise InvalidRequestError(
            "include_stop_str_in_output would show the fence that ends an answer; leave it out.",
            param="include_stop_str_in_output",
        )
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(item, str) for item in stops):
        raise InvalidRequestError("stop must be a string or a list of strings.", param="stop")
    if len(stops) >= _MAX_STOPS:
        raise InvalidRequestError(
            f"stop has {len(stops)} strings; at most {_MAX_STOPS - 1} fit beside the one that ends an answer here.",
            param="stop",
        )
    return [*stops, *STOPS][:_MAX_STOPS]


def _chat_id(body: Body) -> str:
    return re.sub(r"^(cmpl-)?", "chatcmpl-", str(body.get("id", "")), count=1)


def _prompt_fields(choices: Sequence[Body]) -> Body:
    first = choices[0] if choices else {}
    return {name: first[name] for name in _PROMPT_FIELDS if first.get(name)}


def _chat_choice(choice: Body, num_top: int) -> Body:
    kept = {name: value for name, value in choice.items() if name not in {"text", "logprobs", *_PROMPT_FIELDS}}
    kept["message"] = {"role": "assistant", "content": choice.get("text", "")}
    kept["logprobs"] = _chat_logprobs(choice.get("logprobs"), num_top)
    if kept.get("stop_reason") in STOPS:
        kept["stop_reason"] = None
    return kept


def _chat_logprobs(logprobs: Body | None, num_top: int) -> Body | None:
    if not logprobs:
        return None
    tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
    rows = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
    return {"content": [_token_logprob(token, value, _best(top, num_top)) for token, value, top in rows]}


def _best(top: dict[str, float] | None, num_top: int) -> list[tuple[str, float]]:
    return sorted((top or {}).items(), key=lambda item: -item[1])[:num_top]


def _token_logprob(token: str, value: float | None, top: list[tuple[str, float]]) -> dict[str, Any]:
    shown = {"token": token, "logprob": value, "bytes": list(token.encode())}
    return shown | {"top_logprobs": [{"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in top]}
