"""Completion rendering for base models: one text of fenced, headed blocks, its answer mapped back to a chat answer."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from jinja2 import Template

from server.core.errors import InvalidRequestError
from server.core.types import Body, Profile, Selection
from server.rendering.context import Exchange, demonstrated, render
from server.rendering.messages import check_messages, split_system, text_of
from server.rendering.sanitise import FENCE, Sanitiser

STOPS = ("\n" + FENCE,)
"""Ends an answer: the fence that closes its block."""

_CHAT_ONLY = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "top_logprobs",
        "logprobs",
    }
    | {"max_completion_tokens", "add_generation_prompt", "continue_final_message", "chat_template", "stop"}
    | {"chat_template_kwargs", "documents"}
)


def render_completion(
    profile: Profile, template: Template, selection: Selection, body: Body, sanitiser: Sanitiser
) -> Body:
    """A completion request for the engine, from a chat request. Raises InvalidRequestError for what it cannot carry."""
    _refuse_tools(body)
    system, rest = split_system(check_messages(body))
    exchanges, question, opening = _read_history(rest, continues=bool(body.get("continue_final_message")))
    text = render(
        template,
        profile,
        selection,
        sanitiser,
        demonstrations=demonstrated(selection),
        system=system,
        exchanges=exchanges,
        question=question,
    )
    fields = {name: value for name, value in body.items() if name not in _CHAT_ONLY}
    if (limit := body.get("max_completion_tokens", body.get("max_tokens"))) is not None:
        fields["max_tokens"] = limit
    if body.get("logprobs"):
        fields["logprobs"] = body.get("top_logprobs") or 0
    prompt = text + sanitiser.text(opening)
    return {**profile.sampling, **fields, "prompt": prompt, "stop": [*_stops(body), *STOPS]}


def to_chat(body: Body, *, num_top_logprobs: int) -> Body:
    """A completion answer as a chat answer; fields both share stay as they are."""
    choices = [_chat_choice(choice, num_top_logprobs) for choice in body.get("choices", ())]
    return {**body, "id": _chat_id(body), "object": "chat.completion", "choices": choices}


async def to_chat_events(events: AsyncIterator[Body], *, num_top_logprobs: int) -> AsyncIterator[Body]:
    """A completion stream as a chat stream, event by event. An error event passes as it is."""
    started: set[int] = set()
    async for event in events:
        if "error" in event:
            yield event
            continue
        choices = []
        for choice in event.get("choices", ()):
            role = {} if choice["index"] in started else {"role": "assistant"}
            started.add(choice["index"])
            mapped = _chat_choice(choice, num_top_logprobs)
            mapped["delta"] = {**role, "content": mapped.pop("message")["content"]}
            choices.append(mapped)
        yield {**event, "id": _chat_id(event), "object": "chat.completion.chunk", "choices": choices}


def _refuse_tools(body: Body) -> None:
    for field in ("tools", "functions"):
        if body.get(field) and body.get("tool_choice") != "none":
            raise InvalidRequestError(
                f"{field} need a model with a chat template; this profile renders for a base model. "
                "Leave them out or choose a profile with chat rendering.",
                param=field,
            )


def _read_history(messages: Sequence[Body], *, continues: bool) -> tuple[list[Exchange], str, str]:
    """Past exchanges, the question to answer, and the opening of the answer where the client has written one."""
    turns: list[tuple[str, str]] = []
    for index, message in enumerate(messages):
        role, text = message["role"], _text_only(message, f"messages[{index}]")
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        else:
            turns.append((role, text))
    opening = turns.pop()[1] if continues and turns and turns[-1][0] == "assistant" else ""
    if not turns or turns[-1][0] != "user":
        raise InvalidRequestError("The last message must be the user's.", param="messages")
    question = turns.pop()[1]
    if turns and turns[0][0] == "assistant":
        turns.insert(0, ("user", ""))
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return [Exchange(user, assistant) for (_, user), (_, assistant) in pairs], question, opening


def _text_only(message: Body, where: str) -> str:
    parts = message["content"] if isinstance(message.get("content"), list) else []
    if any("text" not in part for part in parts):
        raise InvalidRequestError(f"{where} has a part that is not text; this profile renders text.", param=where)
    if message["role"] not in {"user", "assistant"} or message.get("tool_calls"):
        raise InvalidRequestError(
            f"{where} is part of a tool call or a late system message; this profile renders for a base model, "
            "which has neither.",
            param=where,
        )
    return text_of(message)


def _stops(body: Body) -> list[str]:
    stop = body.get("stop")
    if stop is None:
        return []
    if isinstance(stop, str):
        return [stop]
    if isinstance(stop, list) and all(isinstance(item, str) for item in stop):
        return stop
    raise InvalidRequestError("stop must be a string or a list of strings.", param="stop")


def _chat_id(body: Body) -> str:
    return re.sub(r"^(cmpl-)?", "chatcmpl-", str(body.get("id", "")), count=1)


def _chat_choice(choice: Body, num_top_logprobs: int) -> Body:
    kept = {name: value for name, value in choice.items() if name not in {"text", "logprobs", "prompt_logprobs"}}
    kept["message"] = {"role": "assistant", "content": choice.get("text", "")}
    kept["logprobs"] = _chat_logprobs(choice.get("logprobs"), num_top_logprobs)
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
