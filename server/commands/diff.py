"""`icalign diff`: what differs between two versions of the prompts, in the files and in what engines get."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from server.authoring.changes import (
    Fate,
    FieldChange,
    ItemChange,
    PromptChange,
    compare_fields,
    compare_files,
    compare_prompts,
    diff_texts,
    settings_of,
    text_of,
)
from server.authoring.prompt_tests import load_cases
from server.authoring.rendered import Rendered
from server.authoring.requests import form_for, read_request, read_requests, request_of, with_choice
from server.authoring.revisions import prompts_at
from server.commands.output import command, console, fail, write_json
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
from server.core.types import Body, Demonstration, Principle
from server.library import Prompts
from server.rendering.forms.chat import ChatForm

CHANGED = 1
_FATES = {Fate.ADDED: ("+", "green"), Fate.REMOVED: ("-", "red"), Fate.CHANGED: ("~", "yellow")}
_LINES = {"+": "green", "-": "red", "@": "cyan"}
_SHOWN_CHARS = 100
_SHORT_CHARS = 50


@dataclass(frozen=True)
class _Side:
    """One of the two folders."""

    name: str
    directory: Path
    prompts: Prompts


@command
def diff(
    before: Annotated[str, typer.Argument(help="Folder, or git revision of the prompts folder.")],
    after: Annotated[str | None, typer.Argument(help="The same; by default the folder as it lies there.")] = None,
    texts: Annotated[list[str] | None, typer.Argument(help="User messages to compare prompts for.")] = None,
    request: Annotated[list[Path] | None, typer.Option("--request", help="JSON file of a request.")] = None,
    requests: Annotated[Path | None, typer.Option("--requests", help="File with a text or request a line.")] = None,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="For requests that name none; may be repeated.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show how the prompts' texts differ.")] = False,
    prompts: PromptsOption = None,
    model: ModelOption = None,
    embedder: EmbedderOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions of the prompts: in the files, and in the prompts of some requests.

    Without requests of yours, those of the prompt tests are compared. Exits with 1 if a prompt differs.
    """
    bench = open_workbench(config, prompts=prompts, model=model, embedder=embedder)
    working = bench.settings.prompts
    with ExitStack() as stack:
        old, new = (
            _load(bench, name, stack.enter_context(prompts_at(name, working)))
            for name in (before, after or str(working))
        )
        items = compare_files(old.directory, new.directory)
        bodies = _bodies(texts or (), request or (), requests, profile or ())
        bodies = bodies or _tested(old, new, profile or ())
        renderers = bench.renderer(old.prompts), bench.renderer(new.prompts)
        changes = compare_prompts(*renderers, form_for(ChatForm.path), bodies)
    if as_json:
        write_json(_json(old, new, items, changes, full=full))
    else:
        _show(old, new, items, changes, console(), full=full)
    _exit(changes)


def _exit(changes: Sequence[PromptChange]) -> None:
    """As `diff` does. A request that neither makes a prompt for says nothing of what differs, so it is trouble."""
    faults = dict.fromkeys(change.after_fault for change in changes if change.before is None and change.after is None)
    if faults:
        fail("\n".join(f"Neither makes a prompt: {fault}" for fault in faults))
    if any(change.is_changed for change in changes):
        raise SystemExit(CHANGED)


def _load(bench: Workbench, name: str, directory: Path) -> _Side:
    return _Side(name, directory, bench.load(directory).current)


def _bodies(texts: Sequence[str], files: Sequence[Path], lines: Path | None, profiles: Sequence[str]) -> list[Body]:
    form = form_for(ChatForm.path)
    given = [
        *(request_of(text, form) for text in texts),
        *(read_request(file) for file in files),
        *(read_requests(lines) if lines else ()),
    ]
    return [with_choice(body, name, {}) for body in given for name in _profiles_for(body, profiles)]


def _profiles_for(body: Body, profiles: Sequence[str]) -> Sequence[str | None]:
    options = body.get("alignment")
    names_one = isinstance(options, dict) and options.get("profile") is not None
    return [None] if names_one or not profiles else profiles


def _tested(old: _Side, new: _Side, profiles: Sequence[str]) -> list[Body]:
    """The requests of the prompt tests of the new version, or of the old one where it has none."""
    cases = load_cases(new.directory) or load_cases(old.directory)
    bodies = [case.body for case in cases if not profiles or case.profile in profiles]
    if not bodies:
        raise ConfigurationError("There are no such prompt tests to take requests from; give texts or --requests FILE.")
    return bodies


def _versions(old: _Side, new: _Side) -> Mapping[str, tuple[str | None, str | None]]:
    """Of each profile that differs."""
    before, after = (
        {name: profile.version for name, profile in side.prompts.profiles.current.items()} for side in (old, new)
    )
    names = dict.fromkeys((*before, *after))
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _show(
    old: _Side, new: _Side, items: Sequence[ItemChange], changes: Sequence[PromptChange], out: Console, *, full: bool
) -> None:
    out.print(Text(f"{old.name} → {new.name}", "bold"))
    for name, (before, after) in _versions(old, new).items():
        out.print(Text(f"profile {name}: {before or 'none'} → {after or 'none'}"))
    out.print(Text(f"\nitems that differ in the files: {len(items)}", "bold"))
    for item in items:
        _show_item(item, out)
    changed = [change for change in changes if change.is_changed]
    out.print(Text(f"\nprompts that differ: {len(changed)} of {len(changes)}", "bold"))
    for change in changed:
        _show_change(change, out, full=full)


def _show_item(item: ItemChange, out: Console) -> None:
    sign, style = _FATES[item.fate]
    out.print(Text(f"{sign} {item.kind} {item.id}", style))
    for field in item.fields if item.fate is Fate.CHANGED else ():
        if max(len(field.before), len(field.after)) <= _SHORT_CHARS:
            out.print(Text(f"    {_arrow(field)}"))
        else:
            out.print(Text(f"    {field.name}:"))
            _show_lines(diff_texts(field.before, field.after, context=1), "      ", out)


def _arrow(field: FieldChange) -> str:
    return f"{field.name}: {field.before or 'none'} → {field.after or 'none'}"


def _show_lines(lines: Sequence[str], indent: str, out: Console) -> None:
    for line in lines:
        out.print(Text(f"{indent}{line}", _LINES.get(line[:1], "")))


def _show_change(change: PromptChange, out: Console, *, full: bool) -> None:
    out.print(Text(f"~ {_title(change)}", "yellow"))
    if change.before is None or change.after is None:
        fault = change.before_fault or change.after_fault
        out.print(Text(f"    {'before' if change.before is None else 'after'}: {fault}"))
        return
    for line in _summary(change.before, change.after):
        out.print(Text(f"    {line}"))
    if full:
        _show_lines(diff_texts(text_of(change.before), text_of(change.after)), "    ", out)


def _title(change: PromptChange) -> str:
    options = change.body.get("alignment") or {}
    scope = "".join(f" {dimension}={value}" for dimension, value in options.get("scope", {}).items())
    messages = change.body.get("messages")
    said = messages[-1].get("content") if isinstance(messages, list) and messages else ""
    text = " ".join(str(said).split())
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
    return f"{options.get('profile', 'default profile')}{scope}: {short}"


def _summary(before: Rendered, after: Rendered) -> list[str]:
    """What differs in a line each."""
    old, new = _facts(before), _facts(after)
    lines = [f"{name}: {old[name]} → {new[name]}" for name in ("risk", "route", "tokens") if old[name] != new[name]]
    for name, past, present in (
        ("demonstrations", _ids(before.demonstrations), _ids(after.demonstrations)),
        ("principles", _ids(before.principles), _ids(after.principles)),
    ):
        if past != present:
            gone, come = [item for item in past if item not in present], [item for item in present if item not in past]
            shown = [*(f"-{item}" for item in gone), *(f"+{item}" for item in come)]
            lines.append(f"{name}: {' '.join(shown) or 'in another order'}")
    changed = compare_fields(settings_of(before), settings_of(after))
    lines += [_arrow(field) for field in changed]
    return lines or ["the texts of the same items: --full shows how"]


def _ids(items: Sequence[Demonstration | Principle]) -> list[str]:
    return [item.id for item in items]


def _facts(rendered: Rendered) -> Mapping[str, str]:
    return {
        "risk": ", ".join(f"{selection.risk:.2f}" for selection in rendered.selections),
        "route": ", ".join(selection.route.value for selection in rendered.selections),
        "tokens": str(rendered.trace.tokens.get("alignment", 0)),
    }


def _json(old: _Side, new: _Side, items: Sequence[ItemChange], changes: Sequence[PromptChange], *, full: bool) -> Body:
    versions = {name: {"before": before, "after": after} for name, (before, after) in _versions(old, new).items()}
    changed = [_change_json(change, full=full) for change in changes if change.is_changed]
    return {
        "before": old.name,
        "after": new.name,
        "profiles": versions,
        "items": items,
        "num_requests": len(changes),
        "prompts": changed,
    }


def _change_json(change: PromptChange, *, full: bool) -> Body:
    sides = {"before": (change.before, change.before_fault), "after": (change.after, change.after_fault)}
    shown = {name: _side_json(rendered, fault, full=full) for name, (rendered, fault) in sides.items()}
    return {"request": change.body, **shown}


def _side_json(rendered: Rendered | None, fault: str, *, full: bool) -> Body:
    if rendered is None:
        return {"fault": fault}
    chosen = {"demonstrations": _ids(rendered.demonstrations), "principles": _ids(rendered.principles)}
    shown = {**_facts(rendered), **chosen}
    return {**shown, **({"body": rendered.body} if full else {})}
