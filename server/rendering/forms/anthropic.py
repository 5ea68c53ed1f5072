"""Anthropic's `/v1/messages`: `system` stands beside `messages`, contents may be blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.forms.base import Context, Conversation
from server.rendering.forms.carried import carried, carried_format
from server.rendering.forms.chat import refuse_tools, with_context
from server.rendering.messages import TEXT_PARTS, check_messages, text_of


class AnthropicForm:
    """Results of tools are blocks of a user message here, and messages of their own in chat form."""

    path = "/v1/messages"
    renderings = frozenset(Rendering)
    prompt_fields: tuple[str, ...] = ("system", "messages", "tools", "chat_template_kwargs")
    continues = False
    limit_fields: tuple[str, ...] = ("max_tokens",)
    messages_field = "messages"

    def read(self, body: Body) -> list[Conversation]:
        """See Form."""
        messages = check_messages(body.get("messages"))
        return [[*_system(body.get("system")), *_chat_messages(messages)]]

    def write_chat(self, body: Body, contexts: Sequence[Context]) -> Body:
        """See Form."""
        system = {"system": contexts[0].system} if contexts[0].system else {}
        kept = {name: value for name, value in body.items() if name != "system"}
        return {**kept, **system, "messages": with_context(body["messages"], replace(contexts[0], system=""))}

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """See Form. What is said of thinking stays behind, since a base model does none."""
        refuse_tools(body)
        limit = {"max_tokens": body.get("max_tokens"), "stop": stop_sequences(body)}
        return {**carried(body), **limit, **carried_format(body, "output_config"), "prompt": prompts[0]}


def stop_sequences(body: Body) -> list[str]:
    """The client's own stop strings. Raises InvalidRequestError."""
    given = body.get("stop_sequences")
    if given is not None and not (isinstance(given, list) and all(isinstance(text, str) for text in given)):
        raise InvalidRequestError("stop_sequences must be a list of strings.", param="stop_sequences")
    return given or []


def _system(system: Any) -> Conversation:
    if system is not None and not isinstance(system, str | list):
        raise InvalidRequestError("system must be a string or a list of text blocks.", param="system")
    messages = check_messages([{"role": "system", "content": system}], "system")
    if isinstance(system, list) and any(block.get("type") not in TEXT_PARTS for block in system):
        raise InvalidRequestError("system must hold text blocks only.", param="system")
    return messages if text_of(messages[0]) else []


def _chat_messages(messages: Sequence[Body]) -> Iterator[Body]:
    for message in messages:
        blocks = message.get("content")
        if not isinstance(blocks, list):
            yield message
            continue
        for block in blocks:
            if block.get("type") == "tool_result":
                yield {"role": "tool", "content": _result_text(block.get("content"))}
        kept = [block for block in blocks if block.get("type") != "tool_result"]
        if kept or not blocks:
            yield {**message, "content": kept}


def _result_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise InvalidRequestError("The content of a tool_result must be a text or a list of blocks.", param="messages")
    return content or ""
