"""What the pipeline asks of an endpoint's form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.core.types import Body, Exchange, Rendering

Conversation = list[Body]
"""Chat messages as `/v1/chat/completions` takes them, whatever the endpoint; checked, with at least one in it."""


@dataclass(frozen=True)
class Context:
    """What a chat rendering puts around one conversation: a system text and exchanges as turns before it, a reminder
    after the last message of its user, and the opening of the answer at its end. All texts may be empty.
    """

    system: str
    turns: Sequence[Exchange]
    reminder: str = ""
    opening: str = ""


class Form(Protocol):
    """One endpoint's requests. A body may hold several conversations; each is aligned by itself."""

    path: str
    renderings: frozenset[Rendering]
    """The renderings that it can carry."""
    prompt_fields: tuple[str, ...]
    """Fields whose strings may reach the prompt."""
    continues: bool
    """Whether its chat requests can end in the opening of an answer, for engines that continue one."""
    limit_fields: tuple[str, ...]
    """Fields that limit the tokens of the answer, the first given one counting."""
    messages_field: str
    """The field that holds the conversation, for errors to name."""

    def read(self, body: Body) -> list[Conversation]:
        """The conversations of `body`, what the system says first. Raises InvalidRequestError naming the field."""
        ...

    def write_chat(self, body: Body, contexts: Sequence[Context]) -> Body:
        """`body` with a context around each conversation. Leading system messages are in the contexts already."""
        ...

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """A request for `/v1/completions` with one prompt for each conversation. Raises InvalidRequestError."""
        ...
