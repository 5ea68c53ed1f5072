"""What differs between two prompts folders: item by item in the files, and in the prompts made for requests."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from server.authoring.rendered import Rendered, Renderer
from server.core.errors import PromptFilesError, RequestError
from server.core.types import Body, Demonstration, RiskMessage
from server.profiles.folder import Folder, FolderReader
from server.rendering.forms.base import Form

Fields = Mapping[str, str]


class Fate(StrEnum):
    """What became of an item."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class FieldChange:
    """A field's text before and after; empty where there was or is none."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class ItemChange:
    """A profile, constitution, principle, demonstration, template or file of risk/ that differs."""

    kind: str
    id: str
    fate: Fate
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True)
class PromptChange:
    """A request with the prompts that two folders make for it; a fault says why one makes none."""

    body: Body
    before: Rendered | None
    after: Rendered | None
    before_fault: str = ""
    after_fault: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether the engine would get something else."""
        if self.before is None or self.after is None:
            return self.before is not self.after
        return (self.before.path, self.before.body) != (self.after.path, self.after.body)


def compare_files(before: Path, after: Path) -> list[ItemChange]:
    """What differs between the files of two folders. Raises PromptFilesError where one cannot be read."""
    old, new = _items(before), _items(after)
    return [
        change
        for key in dict.fromkeys((*old, *new))
        if (change := _compare(key, old.get(key), new.get(key))) is not None
    ]


def compare_prompts(before: Renderer, after: Renderer, form: Form, bodies: Sequence[Body]) -> list[PromptChange]:
    """Each of `bodies` as both would send it."""
    return [_compare_prompt(before, after, form, body) for body in bodies]


def text_of(rendered: Rendered) -> str:
    """A prompt as one text, its messages under their roles."""
    return "\n".join(f"[{message.role}]\n{message.text}" for message in rendered.messages)


def settings_of(rendered: Rendered) -> Fields:
    """The fields of a request that hold no prompt."""
    prompt = {"messages", "prompt"}
    return {name: orjson.dumps(value).decode() for name, value in rendered.body.items() if name not in prompt}


def diff_texts(before: str, after: str, *, context: int = 3) -> list[str]:
    """Lines that begin with -, + or a blank; @@ stands where equal lines are left out."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=context)
    return list(lines)[2:]


def compare_fields(before: Fields, after: Fields) -> tuple[FieldChange, ...]:
    """Those that differ."""
    names = dict.fromkeys((*before, *after))
    return tuple(
        FieldChange(name, before.get(name, ""), after.get(name, ""))
        for name in names
        if before.get(name, "") != after.get(name, "")
    )


def _compare(key: tuple[str, str], before: Fields | None, after: Fields | None) -> ItemChange | None:
    if before == after:
        return None
    fate = Fate.ADDED if before is None else Fate.REMOVED if after is None else Fate.CHANGED
    return ItemChange(*key, fate, compare_fields(before or {}, after or {}))


def _compare_prompt(before: Renderer, after: Renderer, form: Form, body: Body) -> PromptChange:
    old, old_fault = _render(before, form, body)
    new, new_fault = _render(after, form, body)
    return PromptChange(body, old, new, old_fault, new_fault)


def _render(renderer: Renderer, form: Form, body: Body) -> tuple[Rendered | None, str]:
    try:
        return renderer.render(form, body), ""
    except RequestError as error:
        return None, str(error)


def _items(directory: Path) -> Mapping[tuple[str, str], Fields]:
    folder = FolderReader(directory).read()
    if folder.findings:
        raise PromptFilesError(folder.findings)
    return dict(_all_items(folder))


def _all_items(folder: Folder) -> Iterator[tuple[tuple[str, str], Fields]]:
    for name, document in folder.profiles.items():
        yield ("profile", name), _flat(document.data)
    for name, loaded in folder.constitutions.items():
        file = loaded.file
        order = {"order": "\n".join(item.id for item in file.principles)}
        yield ("constitution", name), _flat(file.model_dump(mode="json", exclude={"principles"})) | order
        for item in file.principles:
            yield ("principle", f"{name}/{item.id}"), _flat(item.model_dump(mode="json", exclude_defaults=True))
    for name, bank in folder.banks.items():
        for demonstration in bank.file.demonstrations:
            yield ("demonstration", demonstration.id), {"file": name, **_demonstration(demonstration)}
    for name, risk in folder.risk.items():
        yield ("risk", name), {**risk.file.about, **_labelled(risk.file.messages)}
    for name, source in folder.templates.items():
        yield ("template", name), {"text": source}


def _labelled(messages: Sequence[RiskMessage]) -> Fields:
    """A line for each message, under its label."""
    lines: dict[str, list[str]] = {"harmful": [], "harmless": []}
    for item in messages:
        lines["harmful" if item.is_harmful else "harmless"].append(" ".join(item.user.split()))
    return {label: "\n".join(texts) for label, texts in lines.items()}


def _demonstration(item: Demonstration) -> Fields:
    history = "\n".join(f"user: {past.user}\nassistant: {past.assistant}" for past in item.history)
    plain = {field.name: getattr(item, field.name) for field in fields(item) if field.name != "history"}
    return {name: str(value) for name, value in plain.items() if value is not None} | (
        {"history": history} if history else {}
    )


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """A mapping of texts by dotted name; lists of anything as one text."""
    if isinstance(value, dict):
        return {
            key: text for part, item in value.items() for key, text in _flat(item, f"{name}.{part}".lstrip(".")).items()
        }
    return {name: value if isinstance(value, str) else orjson.dumps(value).decode()}
