"""Chat rendering: a system text, demonstrations as turns or inside it, then the client's own messages."""

from jinja2 import Template

from server.core.types import Body, Placement, Profile, Selection
from server.rendering.context import demonstrated, render
from server.rendering.messages import check_messages, split_system, with_defaults
from server.rendering.sanitise import Sanitiser

_PROMPT_FIELDS = ("messages", "tools", "functions", "documents", "chat_template_kwargs")
"""Fields of a chat request whose strings a chat template may put into the prompt."""


def render_chat(profile: Profile, template: Template, selection: Selection, body: Body, sanitiser: Sanitiser) -> Body:
    """A chat request for the engine: `body` with aligned messages and the profile's sampling defaults.

    The client's leading system messages become part of the system text, below the constitution; everything after
    keeps its order and form, so that tool calls and their results stay together.
    """
    clean = {field: sanitiser.value(body[field]) for field in _PROMPT_FIELDS if field in body}
    system, rest = split_system(check_messages({"messages": clean.get("messages")}))
    exchanges = demonstrated(selection)
    # Without a message after them, turns would end in a demonstration's answer.
    in_system = profile.placement is Placement.SYSTEM or not rest
    shown = exchanges if in_system else []
    text = render(template, profile, selection, sanitiser, demonstrations=shown, system=system)
    messages = [{"role": "system", "content": text}]
    for exchange in [] if in_system else exchanges:
        messages.append({"role": "user", "content": sanitiser.text(exchange.user)})
        messages.append({"role": "assistant", "content": sanitiser.text(exchange.assistant)})
    return {**with_defaults(body, profile), **clean, "messages": [*messages, *rest]}
