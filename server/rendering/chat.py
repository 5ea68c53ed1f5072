"""Chat rendering: a system text, demonstrations as turns or inside it, then the client's own messages."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Template

from server.core.errors import InvalidRequestError
from server.core.types import Body, Exchange, Placement, Profile, Selection
from server.rendering.context import demonstrated, render
from server.rendering.forms.base import Context, Conversation, Form
from server.rendering.messages import split_system, with_defaults
from server.rendering.sanitise import Sanitiser

# Fields that hold messages; in all others a key such as `source` is a name that the client gave.
_CONVERSATIONS = frozenset({"messages", "input", "system", "previous_input_messages"})
# Options of a chat template that replace it or cut what it makes; those that end in _token are its marks.
_TEMPLATE_OPTIONS = frozenset({"chat_template", "truncation", "max_length", "tokenizer_kwargs"})


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
    together. Raises InvalidRequestError for a template of the client's own, which could leave out what stands here.
    """
    _refuse_template(body)
    clean = {**body, **{field: _clean(field, body[field], sanitiser) for field in form.prompt_fields if field in body}}
    # The turns of a conversation that goes on would come after what the engine has stored of it.
    goes_on = any(body.get(field) is not None for field in ("previous_response_id", "conversation"))
    contexts = [
        _context(profile, template, selection, messages, sanitiser, may_turn=not goes_on)
        for selection, messages in zip(selections, form.read(clean), strict=True)
    ]
    return form.write_chat(with_defaults(clean, profile, form.limit_fields), contexts)


def _refuse_template(body: Body) -> None:
    options = body.get("chat_template_kwargs")
    names = options if isinstance(options, dict) else {}
    found = [f"chat_template_kwargs.{name}" for name in names if name in _TEMPLATE_OPTIONS or name.endswith("_token")]
    if body.get("chat_template") is not None:
        found.append("chat_template")
    if found:
        raise InvalidRequestError(
            f"{found[0]} would decide what becomes of the alignment; leave it out or use profile off.", param=found[0]
        )


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
    if selection.route not in profile.aligned_routes:
        return Context(system, [])
    exchanges = demonstrated(selection)
    # Without a message after them, turns would end in a demonstration's answer.
    as_turns = profile.placement is Placement.TURNS and bool(rest) and may_turn
    shown = [] if as_turns else exchanges
    text = render(template, profile, selection, sanitiser, demonstrations=shown, system=system)
    turns = [Exchange(sanitiser.text(item.user), sanitiser.text(item.assistant)) for item in exchanges]
    return Context(
        text if text.strip() else "",
        turns if as_turns else [],
        reminder=sanitiser.text(selection.reminder),
        opening=sanitiser.text(selection.opening),
    )
