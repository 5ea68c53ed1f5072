"""Messages of risk/ beside each other and beside demonstrations: each is there once, with one label."""

from collections.abc import Iterator
from dataclasses import dataclass

from server.authoring.rules.base import Subject, find, folded
from server.core.errors import Finding
from server.core.types import RiskMessage
from server.profiles.documents import Document, Path


@dataclass(frozen=True)
class _Place:
    """A message and where it stands."""

    item: RiskMessage
    document: Document
    path: Path

    def __str__(self) -> str:
        return f"{self.document.shown}:{self.document.line_of(*self.path)}"


def check_messages(subject: Subject) -> Iterator[Finding]:
    """No message is there twice, be it in two files or with both labels."""
    seen: dict[str, _Place] = {}
    for place in _places(subject):
        first = seen.setdefault(folded(place.item.user), place)
        if first is place:
            continue
        if first.item.is_harmful is place.item.is_harmful:
            message, mend, rule = f"stands at {first} too", "take one of them out", "same-message"
        else:
            message = f"stands at {first} too, as {_label(first.item.is_harmful)}"
            mend, rule = "decide which it is, and take the other out", "both-labels"
        yield find(place.document, place.path, message, mend, rule, "error")


def check_demonstrations(subject: Subject) -> Iterator[Finding]:
    """No message repeats that of a demonstration, which counts for the risk already."""
    entries = {folded(entry.item.user): entry for entry in subject.entries if not entry.item.history}
    for place in _places(subject):
        entry = entries.get(folded(place.item.user))
        if entry is None:
            continue
        if entry.item.is_harmful is place.item.is_harmful:
            message, mend = "which counts for the risk already", "take it out here"
            yield find(place.document, place.path, f"repeats {entry.place}, {message}", mend, "same-message")
        else:
            message, mend = f"which is {entry.item.risk.value}", "decide which it is, and take it out here"
            yield find(place.document, place.path, f"repeats {entry.place}, {message}", mend, "both-labels", "error")


def _places(subject: Subject) -> Iterator[_Place]:
    for loaded in subject.folder.risk.values():
        num_harmful = sum(item.is_harmful for item in loaded.file.messages)
        for number, item in enumerate(loaded.file.messages):
            index = number if item.is_harmful else number - num_harmful
            yield _Place(item, loaded.document, (_label(item.is_harmful), index))


def _label(is_harmful: bool) -> str:
    return "harmful" if is_harmful else "harmless"
