"""`/v1/responses`: a conversation is `instructions` and `input`, a text or a list of items."""

from collections.abc import Sequence
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.forms.base import Context, Conversation
from server.rendering.forms.chat import with_context
from server.rendering.messages import check_messages, refuse_truncation


class ResponsesForm:
    """Items that are no messages (tool calls, their results, reasoning) keep their place among those that are."""

    path = "/v1/responses"
    renderings = frozenset({Rendering.CHAT})
    prompt_fields: tuple[str, ...] = ("instructions", "input", "tools", "previous_input_messages")
    limit_fields: tuple[str, ...] = ("max_output_tokens",)

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
        items = with_context(_items(body["input"]), Context("", contexts[0].turns))
        instructions = {"instructions": contexts[0].system} if contexts[0].system else {}
        kept = {name: value for name, value in body.items() if name != "instructions"}
        return {**kept, **instructions, "input": items}

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """Never called: `renderings` has no completion."""
        raise NotImplementedError


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
