"""Texts that `icalign new` left to be written."""

from collections.abc import Iterator, Mapping
from typing import Any

from server.authoring.rules.base import PLACEHOLDER, Subject, find
from server.core.errors import Finding
from server.profiles.documents import Document, Path
from server.profiles.store import demonstration_path


def check_written(subject: Subject) -> Iterator[Finding]:
    """No text that a model or a client would see is still a placeholder."""
    folder = subject.folder
    for document in (*folder.profiles.values(), *(item.document for item in folder.constitutions.values())):
        for path in _placeholders(document.data):
            yield _find(document, path)
    for document, about in [
        *((bank.document, bank.file.about) for bank in folder.banks.values()),
        *((risk.document, risk.file.about) for risk in folder.risk.values()),
    ]:
        for path in _placeholders(about):
            yield _find(document, path)
    for entry in subject.entries:
        for path in _placeholders({"user": entry.item.user, "assistant": entry.item.assistant}):
            yield _find(entry.document, demonstration_path(entry.document, entry.index, str(path[0])))


def _find(document: Document, path: Path) -> Finding:
    return find(document, path, "is still to be written", "write the text", "placeholder", "error")


def _placeholders(data: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(data, str) and data.startswith(PLACEHOLDER):
        yield path
    elif isinstance(data, Mapping | list):
        for key, value in data.items() if isinstance(data, Mapping) else enumerate(data):
            yield from _placeholders(value, (*path, key))
