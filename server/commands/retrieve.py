"""`icalign retrieve`: what is chosen for a message, what is near it, and why it was chosen or not."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from server.authoring.requests import parse_scope, with_choice
from server.commands.output import command, console, write_json
from server.commands.render import ProfileOption, ScopeOption
from server.commands.workbench import (
    ConfigOption,
    EmbedderOption,
    JsonOption,
    ModelOption,
    PromptsOption,
    open_workbench,
)
from server.core.types import (
    Caller,
    Demonstration,
    Explanation,
    Judged,
    Principle,
    Profile,
    Reason,
    Risk,
    RiskMessage,
    Scored,
)
from server.pipeline import explain, resolve_for
from server.rendering.forms.chat import ChatForm
from server.rendering.forms.registry import FORMS
from server.trace.record import Trace, explanation_json

_STYLES = {Risk.HARMFUL: "red", Risk.LOOKALIKE: "magenta", Risk.SENSITIVE: "yellow", Risk.BENIGN: ""}
_SHOWN_CHARS = 100
_NUM_DECIDING = 6


@command
def retrieve(
    text: Annotated[str, typer.Argument(help="The user's message.")],
    profile: ProfileOption = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many neighbours to show.")] = 12,
    scope: ScopeOption = None,
    prompts: PromptsOption = None,
    model: ModelOption = None,
    embedder: EmbedderOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is near a message, the risk and the route, and why each was chosen or was not."""
    body = with_choice({}, profile, parse_scope(scope or ()))
    bench = open_workbench(config, prompts=prompts, model=model, embedder=embedder)
    loaded = bench.load().current
    resolved = resolve_for(FORMS[ChatForm.path], body, Caller(), loaded, Trace())
    assert resolved is not None, "only completions may have no profile"
    explanation = explain(text, count, resolved.profile, loaded)
    if as_json:
        write_json(explanation_json(explanation, resolved.profile, bench.embedder.name))
    else:
        _show(explanation, resolved.profile, bench.embedder.name, console())


def _show(explanation: Explanation, profile: Profile, embedder: str, out: Console) -> None:
    selection, (elevated, high) = explanation.selection, profile.retrieval.thresholds
    out.print(Text(f"profile {profile.label}, compared by {embedder}", "bold"))
    out.print(
        Text(
            f"risk {selection.risk:.2f}, route {selection.route.value} (elevated from {elevated:g}, high from {high:g})"
        )
    )
    if explanation.passage is not None:
        out.print(Text(f"decided by this part of it: {_shortened(explanation.passage)}"))
    for deciding in explanation.risk_neighbours[:_NUM_DECIDING]:
        _show_deciding(deciding, out)
    out.print(Text("\nnearest demonstrations", "bold"))
    for neighbour in explanation.neighbours:
        _show_demonstration(neighbour, out)
    out.print(Text("\nprinciples", "bold"))
    for pinned in selection.principles:
        out.print(Text.assemble("           ", (pinned.id, "bold"), "  pinned"))
    for principle in explanation.principles:
        out.print(_line(principle, ""))


def _show_demonstration(judged: Judged[Demonstration], out: Console) -> None:
    out.print(_line(judged, judged.item.risk.value))
    out.print(Text(f"           {_shortened(judged.item.user)}", "dim"))


def _show_deciding(scored: Scored[Demonstration | RiskMessage], out: Console) -> None:
    label, style = ("harmful", "red") if scored.item.is_harmful else ("harmless", "")
    out.print(Text.assemble(f"   {scored.similarity:6.3f}  ", (label, style), f"  {scored.item.id}"))
    out.print(Text(f"           {_shortened(scored.item.user)}", "dim"))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:_SHOWN_CHARS]}{'...' if len(line) > _SHOWN_CHARS else ''}"


def _line(judged: Judged[Demonstration] | Judged[Principle], risk: str) -> Text:
    is_chosen = judged.reason is Reason.CHOSEN
    return Text.assemble(
        (" ✓ " if is_chosen else "   ", "green"),
        f"{judged.similarity:6.3f}  ",
        (judged.item.id, "bold" if is_chosen else ""),
        *([("  " + risk, _STYLES[Risk(risk)])] if risk else []),
        f"  {judged.why}",
    )
