"""`/v1/responses`: a conversation is `instructions` and `input`, a text or a list of items."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.forms.base import Context, Conversation
from server.rendering.forms.carried import carried, carried_format
from server.rendering.forms.chat import refuse_tools, with_context
from server.rendering.messages import check_messages, refuse_truncation

_LOGPROBS = "message.output_text.logprobs"
# What refers to things that an engine keeps; a completion leaves nothing behind.
_KEPT = ("previous_response_id", "previous_input_messages", "conversation", "prompt", "background")


class ResponsesForm:
    """Items that are no messages (tool calls, their results, reasoning) keep their place among those that are."""

    path = "/v1/responses"
    renderings = frozenset(Rendering)
    prompt_fields: tuple[str, ...] = (
        *("instructions", "input", "tools", "previous_input_messages", "chat_template_kwargs"),
    )
    continues = True
    limit_fields: tuple[str, ...] = ("max_output_tokens",)
    messages_field = "input"

    def read(self, body: Body) -> list[Conversation]:
        """See Form."""
        refuse_truncation(body, "truncate_prompt_tokens")
        if body.get("truncation") not in (None, "disabled"):
            refuse_truncation(body, "truncation")
        instructions = body.get("instructions")
        if instructions is not None and not isinstance(instructions, str):
            raise InvalidRequestError("instructions must be a string.", param="instructions")
        messages = [_message(item, f"input[{index}]") for index, item in enumerate(_items(body.get("input")))]
        return [[*_system(instructions), *check_messages(messages, "input")]]

    def write_chat(self, body: Body, contexts: Sequence[Context]) -> Body:
        """Instructions do not carry over to a next response, so the context goes there as far as it can."""
        items = with_context(_items(body["input"]), replace(contexts[0], system=""), text_type="input_text")
        instructions = {"instructions": contexts[0].system} if contexts[0].system else {}
        kept = {name: value for name, value in body.items() if name != "instructions"}
        return {**kept, **instructions, "input": [*items, *_opening(contexts[0].opening)]}

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """See Form. What is said of reasoning stays behind, since a base model does none."""
        refuse_tools(body)
        _refuse_kept(body)
        _refuse_logprobs(body)
        limit = {"max_tokens": body.get("max_output_tokens")}
        return {**carried(body), **limit, **carried_format(body, "text"), "prompt": prompts[0]}


def _opening(text: str) -> list[Body]:
    """An answer that is not complete, as the last item: vLLM continues it."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"type": "message", "id": "msg_opening", "role": "assistant", "status": "incomplete", "content": content}
    return [item] if text else []


def _refuse_kept(body: Body) -> None:
    mend = "this profile renders one completion, which keeps nothing. Choose a profile with chat rendering."
    for field in _KEPT:
        if body.get(field):
            raise InvalidRequestError(f"{field} needs an engine that keeps responses; {mend}", param=field)
    for index, item in enumerate(_items(body["input"])):
        if (kind := item.get("type", "message")) not in ("message", "reasoning"):
            where = f"input[{index}]"
            raise InvalidRequestError(f"{where} is of type {kind!r}, which is not text of its own; {mend}", param=where)


def _refuse_logprobs(body: Body) -> None:
    include = body.get("include")
    asked = {"top_logprobs": body.get("top_logprobs"), "include": isinstance(include, list) and _LOGPROBS in include}
    for field, value in asked.items():
        if value:
            raise InvalidRequestError(
                f"{field} asks for log probabilities, which responses of this profile do not have; "
                "leave it out or use /v1/chat/completions.",
                param=field,
            )


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise InvalidRequestError("input must be a text or a list with at least one item.", param="input")
    return value


def _system(instructions: str | None) -> Conversation:
    return [{"role": "system", "content": instructions}] if instructions else []


def _message(item: Any, where: str) -> Body:
    """An input item as a chat message; one that says nothing a reader could use becomes an empty one."""
    if not isinstance(item, dict):
        raise InvalidRequestError(f"{where} must be an object.", param=where)
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "function_call":
        call = {"function": {"name": item.get("name"), "arguments": item.get("arguments")}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "content": item.get("output")}
    return {"role": "assistant", "content": None}
