"""`icalign render`: the exact prompt that the engine would get, its parts coloured by origin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from server.authoring.origins import Origin
from server.authoring.rendered import Message, Rendered
from server.authoring.requests import form_for, parse_scope, read_request, request_of, with_choice
from server.commands.output import command, console, write_json
from server.commands.workbench import (
    ConfigOption,
    EmbedderOption,
    JsonOption,
    ModelOption,
    PromptsOption,
    Workbench,
    open_workbench,
)
from server.core.errors import ConfigurationError
from server.core.types import Body, Selection
from server.rendering.forms.base import Form
from server.rendering.forms.chat import ChatForm

ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile; by default the server's.")]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", help="As jurisdiction=eu; may be repeated.")]

_STYLES: Mapping[Origin, str] = {
    Origin.TEMPLATE: "dim",
    Origin.CONSTITUTION: "blue",
    Origin.RETRIEVED_PRINCIPLE: "cyan",
    Origin.PINNED_DEMONSTRATION: "magenta",
    Origin.RETRIEVED_DEMONSTRATION: "green",
    Origin.REMINDER: "red",
    Origin.OPENING: "bold red",
    Origin.CLIENT: "bold yellow",
    Origin.UNKNOWN: "",
}


@command
def render(
    text: Annotated[str | None, typer.Argument(help="The user's message.")] = None,
    profile: ProfileOption = None,
    system: Annotated[str | None, typer.Option("--system", help="The client's system text.")] = None,
    scope: ScopeOption = None,
    endpoint: Annotated[str, typer.Option("--endpoint", help="The aligned endpoint it is sent to.")] = ChatForm.path,
    request: Annotated[
        Path | None, typer.Option("--request", help="JSON file of a whole request, or of its messages.")
    ] = None,
    window_tokens: Annotated[int | None, typer.Option("--window-tokens", help="What the model takes.")] = None,
    prompts: PromptsOption = None,
    model: ModelOption = None,
    embedder: EmbedderOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the exact prompt that the engine would get, its parts coloured by where they come from."""
    form = form_for(endpoint)
    body = with_choice(_request(text, request, form, system), profile, parse_scope(scope or ()))
    bench = open_workbench(config, prompts=prompts, model=model, embedder=embedder, window_tokens=window_tokens)
    rendered = bench.renderer(bench.load().current).render(form, body)
    if as_json:
        write_json(_json(rendered, bench))
    else:
        _show(rendered, bench, console())


def _request(text: str | None, file: Path | None, form: Form, system: str | None) -> Body:
    if (text is None) == (file is None):
        raise ConfigurationError("Give a text or --request FILE, and not both.")
    if file is not None:
        return read_request(file, system=system)
    assert text is not None
    return request_of(text, form, system=system)


def _json(rendered: Rendered, bench: Workbench) -> Body:
    """As POST /v1/alignment/render answers, with the messages piece by piece beside it."""
    count, trace = bench.tokenizer.count, rendered.trace.to_json()
    by_origin = {origin.value: tokens for origin, tokens in rendered.num_tokens_by_origin(count).items()}
    tokens = {**trace.get("tokens", {}), "messages": rendered.num_tokens(count), "by_origin": by_origin}
    messages = [[_message_json(message) for message in conversation] for conversation in rendered.conversations]
    return {"endpoint": rendered.path, "body": rendered.body, **trace, "tokens": tokens, "conversations": messages}


def _message_json(message: Message) -> Body:
    spans = [
        {"origin": span.source.origin.value, "id": span.source.id or None, "text": span.text} for span in message.spans
    ]
    return {"role": message.role, "spans": spans, "others": list(message.others)}


def _show(rendered: Rendered, bench: Workbench, out: Console) -> None:
    _show_head(rendered, out)
    for selection in rendered.selections:
        _show_selection(selection, out)
    for message in rendered.messages:
        out.print(_heading(message))
        out.print(Text.assemble(*((span.text, _STYLES[span.source.origin]) for span in message.spans)))
    _show_tokens(rendered, bench, out)


def _show_head(rendered: Rendered, out: Console) -> None:
    profile = rendered.profile
    how = f"profile {profile.label}, {profile.rendering.value} rendering" if profile else "no profile: not aligned"
    out.print(Text(f"POST {rendered.path}, {how}", "bold"))


def _show_selection(selection: Selection, out: Console) -> None:
    out.print(Text(f"risk {selection.risk:.2f}, route {selection.route.value}"))
    if selection.obstacle is not None:
        out.print(Text(f"The answer's opening is left out: {selection.obstacle.value.replace('_', ' ')}."))


def _heading(message: Message) -> Text:
    named = dict.fromkeys(span.source.id for span in message.spans if span.source.id)
    about = [*([", ".join(named)] if message.role != "prompt" and len(named) == 1 else []), *message.others]
    return Text.assemble("\n", (f"── {message.role} ──", "bold"), f" {', '.join(about)}" if about else "")


def _show_tokens(rendered: Rendered, bench: Workbench, out: Console) -> None:
    count, tokens = bench.tokenizer.count, rendered.trace.tokens
    out.print(Text("\n── tokens ──", "bold"))
    for origin, number in rendered.num_tokens_by_origin(count).items():
        out.print(Text.assemble(f"{number:6}  ", (origin.value.replace("_", " "), _STYLES[origin])))
    out.print(Text(f"{rendered.num_tokens(count):6}  in all, by {bench.tokenizer.name}; a chat format adds its own"))
    if Origin.UNKNOWN in rendered.num_tokens_by_origin(count):
        out.print(Text("The template changes the texts it is given, so that their origin cannot be told."))
    dropped = [identifier for ids in rendered.trace.dropped.values() for identifier in ids]
    if dropped:
        out.print(Text(f"Gave way to the window of {tokens['window']} tokens: {', '.join(dropped)}"))
    elif rendered.selections and tokens.get("window") is None:
        out.print(Text("The model's window is not known here; --window-tokens shows what would give way to it."))
