"""Chat rendering: a system text, demonstrations as turns or inside it, then the client's own messages."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Template

from server.core.types import Body, Placement, Profile, Selection
from server.rendering.context import demonstrated, render
from server.rendering.forms.base import Context, Conversation, Exchange, Form
from server.rendering.messages import split_system, with_defaults
from server.rendering.sanitise import Sanitiser

# Fields that hold messages; in all others a key such as `source` is a name that the client gave.
_CONVERSATIONS = frozenset({"messages", "input", "system", "previous_input_messages"})


def render_chat(
    form: Form,
    profile: Profile,
    template: Template,
    selections: Sequence[Selection],
    body: Body,
    sanitiser: Sanitiser,
) -> Body:
    """A request of `form` for the engine: `body` with aligned conversations and the profile's sampling defaults.

    Takes one selection for each conversation. The client's leading system messages become part of the system text,
    below the constitution; everything after keeps its order and form, so that tool calls and their results stay
    together.
    """
    clean = {**body, **{field: _clean(field, body[field], sanitiser) for field in form.prompt_fields if field in body}}
    # The turns of a conversation that goes on would come after what the engine has stored of it.
    goes_on = body.get("previous_response_id") is not None
    contexts = [
        _context(profile, template, selection, messages, sanitiser, may_turn=not goes_on)
        for selection, messages in zip(selections, form.read(clean), strict=True)
    ]
    return form.write_chat(with_defaults(clean, profile, form.limit_fields), contexts)


def _clean(field: str, value: Any, sanitiser: Sanitiser) -> Any:
    return sanitiser.conversation(value) if field in _CONVERSATIONS else sanitiser.value(value)


def _context(
    profile: Profile,
    template: Template,
    selection: Selection,
    messages: Conversation,
    sanitiser: Sanitiser,
    *,
    may_turn: bool,
) -> Context:
    system, rest = split_system(messages)
    exchanges = demonstrated(selection)
    # Without a message after them, turns would end in a demonstration's answer.
    as_turns = profile.placement is Placement.TURNS and bool(rest) and may_turn
    shown = [] if as_turns else exchanges
    text = render(template, profile, selection, sanitiser, demonstrations=shown, system=system)
    turns = [Exchange(sanitiser.text(item.user), sanitiser.text(item.assistant)) for item in exchanges]
    return Context(text if text.strip() else "", turns if as_turns else [])
