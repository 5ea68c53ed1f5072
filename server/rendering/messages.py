"""Reads the client's messages: checks their form as far as rendering relies on it, and finds the text in them."""

from collections.abc import Sequence
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body, Profile

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_QUERY_CHARS = 4000
_SYSTEM_ROLES = frozenset({"system", "developer"})
TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of content parts that hold text and nothing else. No set, since what a client sends may be anything."""


def check_messages(messages: Any, where: str = "messages") -> list[Body]:
    """A list of chat messages, found in the field `where`. Raises InvalidRequestError naming the field at fault."""
    if not isinstance(messages, list) or not messages:
        raise InvalidRequestError(f"{where} must be a list with at least one message.", param=where)
    for index, message in enumerate(messages):
        _check_message(message, f"{where}[{index}]")
    return messages


def refuse_truncation(body: Body, field: str) -> None:
    """Raise InvalidRequestError where `field` lets the engine cut the prompt from its beginning."""
    if body.get(field) is not None:
        raise InvalidRequestError(
            f"{field} would cut off what the profile puts first; leave it out or use profile off.", param=field
        )


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise InvalidRequestError(f"{where} must be an object with a role and content.", param=where)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequestError(
            f"{where}.role is {role!r}; it must be one of {', '.join(sorted(_ROLES))}.", param=f"{where}.role"
        )
    if content is not None and not isinstance(content, str | list):
        raise InvalidRequestError(f"{where}.content must be a string or a list of parts.", param=f"{where}.content")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or not all(isinstance(part.get(name, ""), str) for name in ("type", "text")):
            spot = f"{where}.content[{number}]"
            raise InvalidRequestError(f"{spot} must be an object, its type and text strings.", param=spot)


def text_of(message: Body) -> str:
    """The text of a message, its text parts joined by line breaks; parts of other kinds have none."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if "text" in part)
    return content or ""


def query_of(messages: Sequence[Body]) -> str:
    """What retrieval looks for: the last user message with text, or the last message at all where no user has spoken.

    Of a long one its beginning and its end, since embedding takes time and memory with length.
    """
    users = [text for message in messages if message["role"] == "user" and (text := text_of(message)).strip()]
    text = users[-1] if users else text_of(messages[-1])
    return text if len(text) <= _QUERY_CHARS else f"{text[: _QUERY_CHARS // 2]}\n{text[-_QUERY_CHARS // 2 :]}"


def split_system(messages: Sequence[Body]) -> tuple[str, Sequence[Body]]:
    """The text of the leading system and developer messages, joined by blank lines, and the messages after them.

    One that holds more than text stays a message, and what has another type is none, whatever role it claims.
    """
    leading = 0
    while leading < len(messages) and _is_system_text(messages[leading]):
        leading += 1
    return "\n\n".join(text_of(message) for message in messages[:leading]), messages[leading:]


def with_defaults(body: Body, profile: Profile, limit_fields: Sequence[str]) -> Body:
    """`body` with the profile's sampling where the client says nothing, or null.

    The profile's `max_tokens` has the last name of `limit_fields` in `body`, and gives way to any of them.
    """
    defaults = {name: value for name, value in profile.sampling.items() if name != "max_tokens"}
    if all(body.get(field) is None for field in limit_fields) and "max_tokens" in profile.sampling:
        defaults[limit_fields[-1]] = profile.sampling["max_tokens"]
    return {**body, **{name: value for name, value in defaults.items() if body.get(name) is None}}


def _is_system_text(message: Body) -> bool:
    return message.get("type", "message") == "message" and message.get("role") in _SYSTEM_ROLES and _is_text(message)


def _is_text(message: Body) -> bool:
    content = message.get("content")
    return not isinstance(content, list) or all(part.get("type", "text") in TEXT_PARTS for part in content)
