"""Texts that `icalign new` left to be written."""

from collections.abc import Iterator
from typing import Any

from server.authoring.rules.base import PLACEHOLDER, Subject, find
from server.core.errors import Finding
from server.profiles.documents import Path


def check_written(subject: Subject) -> Iterator[Finding]:
    """No text that a model or a client would see is still a placeholder."""
    folder = subject.folder
    loaded = (item.document for files in (folder.constitutions, folder.banks) for item in files.values())
    for document in (*folder.profiles.values(), *loaded):
        for path in _placeholders(document.data):
            yield find(document, path, "is still to be written", "write the text", "placeholder", "error")


def _placeholders(data: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(data, str) and data.startswith(PLACEHOLDER):
        yield path
    elif isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _placeholders(value, (*path, key))
