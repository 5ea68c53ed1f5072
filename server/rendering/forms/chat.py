"""`/v1/chat/completions`, and vLLM's batch of conversations beside it."""

from collections.abc import Sequence
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.forms.base import Context, Conversation
from server.rendering.messages import TEXT_PARTS, check_messages, refuse_truncation, split_system, text_of

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
# Fields of the completions endpoint that a chat request does not have; they would change or reveal the prompt.
_COMPLETION_ONLY = frozenset({"prompt", "prompt_embeds", "suffix", "echo", "best_of"})


class ChatForm:
    """One conversation, in `messages`."""

    path = "/v1/chat/completions"
    renderings = frozenset(Rendering)
    prompt_fields: tuple[str, ...] = ("messages", "tools", "functions", "documents", "chat_template_kwargs")
    continues = True
    limit_fields: tuple[str, ...] = ("max_completion_tokens", "max_tokens")
    messages_field = "messages"

    def read(self, body: Body) -> list[Conversation]:
        """See Form."""
        refuse_truncation(body, "truncate_prompt_tokens")
        return [check_messages(body.get("messages"))]

    def write_chat(self, body: Body, contexts: Sequence[Context]) -> Body:
        """See Form."""
        (messages,), options = _continued([with_context(body["messages"], contexts[0])], contexts)
        return {**body, **options, "messages": messages}

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """See Form."""
        return {**completion_fields(body), "prompt": prompts[0]}


class BatchForm(ChatForm):
    """Several conversations: `messages` is a list of lists."""

    path = "/v1/chat/completions/batch"

    def read(self, body: Body) -> list[Conversation]:
        """See Form."""
        refuse_truncation(body, "truncate_prompt_tokens")
        batch = body.get("messages")
        if not isinstance(batch, list) or not batch:
            raise InvalidRequestError("messages must be a list of lists of messages.", param="messages")
        return [check_messages(messages, f"messages[{index}]") for index, messages in enumerate(batch)]

    def write_chat(self, body: Body, contexts: Sequence[Context]) -> Body:
        """See Form."""
        pairs = zip(body["messages"], contexts, strict=True)
        batch, options = _continued([with_context(messages, context) for messages, context in pairs], contexts)
        return {**body, **options, "messages": batch}

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """See Form."""
        return {**completion_fields(body), "prompt": list(prompts)}


def with_context(messages: Sequence[Body], context: Context, *, text_type: str = "text") -> list[Body]:
    """System text, turns, and the client's messages after its leading system ones, which keep their order and form.

    The last one of its user ends with the reminder. `text_type` is what the endpoint calls a part that is text.
    """
    _, rest = split_system(messages)
    system = [{"role": "system", "content": context.system}] if context.system else []
    turns = [
        {"role": role, "content": text}
        for exchange in context.turns
        for role, text in (("user", exchange.user), ("assistant", exchange.assistant))
    ]
    return [*system, *turns, *_reminded(rest, context.reminder, text_type)]


def _reminded(messages: Sequence[Body], reminder: str, text_type: str) -> Sequence[Body]:
    """`messages` with a further paragraph in the last one in which the user says something, if there is a user."""
    users = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    spoken = [index for index in users if text_of(messages[index]).strip()]
    if not reminder or not users:
        return messages
    place = (spoken or users)[-1]
    message = messages[place]
    content = _with_paragraph(message.get("content"), reminder, text_type)
    return [*messages[:place], {**message, "content": content}, *messages[place + 1 :]]


def _with_paragraph(content: Any, text: str, text_type: str) -> str | list[Body]:
    if not isinstance(content, list):
        return f"{content}\n\n{text}" if content else text
    *before, last = content or [{}]
    if "text" in last and last.get("type", "text") in TEXT_PARTS:
        return [*before, {**last, "text": f"{last['text']}\n\n{text}"}]
    return [*content, {"type": text_type, "text": text}]


def _continued(batch: list[list[Body]], contexts: Sequence[Context]) -> tuple[list[list[Body]], Body]:
    """Conversations with the openings of their answers, if any, and the options that make vLLM continue them.

    The options are for a whole batch, so a conversation without an opening then ends in an empty one.
    """
    if not any(context.opening for context in contexts):
        return batch, {}
    openings = [{"role": "assistant", "content": context.opening} for context in contexts]
    continued = [[*messages, opening] for messages, opening in zip(batch, openings, strict=True)]
    # Echoed, an opening would be in the answer twice.
    return continued, {"add_generation_prompt": False, "continue_final_message": True, "echo": False}


def completion_fields(body: Body) -> Body:
    """What of a chat request a completion request takes. Raises InvalidRequestError for what it cannot carry."""
    refuse_tools(body)
    fields = {name: value for name, value in body.items() if name not in _CHAT_ONLY | _COMPLETION_ONLY}
    if (limit := body.get("max_completion_tokens", body.get("max_tokens"))) is not None:
        fields["max_tokens"] = limit
    if body.get("logprobs"):
        fields["logprobs"] = num_top_logprobs(body)
    return fields | ({"stop": body["stop"]} if "stop" in body else {})


def num_top_logprobs(body: Body) -> int:
    """How many alternatives a chat request wants for each token. Raises InvalidRequestError."""
    wanted = body.get("top_logprobs")
    if wanted is not None and (not isinstance(wanted, int) or wanted < 0):
        raise InvalidRequestError(f"top_logprobs is {wanted!r}; it must be a whole number.", param="top_logprobs")
    return wanted or 0


def refuse_tools(body: Body) -> None:
    """Raise InvalidRequestError for tools that the model may call; it is told of none of them."""
    if (field := tools_field(body)) is not None:
        raise InvalidRequestError(
            f"{field} need a model with a chat template; this profile renders for a base model. "
            "Leave them out or choose a profile with chat rendering.",
            param=field,
        )


def tools_field(body: Body) -> str | None:
    """The field with tools that the model may call; None where there are none."""
    if body.get("tool_choice") in ("none", {"type": "none"}):
        return None
    return next((field for field in ("tools", "functions") if body.get(field)), None)
