"""What a rule sees: the files that could be read, the profiles that could be made, and what measures text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

from jinja2 import Template

from server.core.errors import Finding
from server.core.types import Demonstration, Profile, Vectors
from server.profiles.documents import Document, Path, field_name
from server.profiles.folder import Folder
from server.profiles.store import demonstration_path, resolve_profiles
from server.rendering.tokens import Tokenizer

Severity = Literal["error", "warning"]

PLACEHOLDER = "TODO:"
"""What texts begin with that `icalign new` leaves to be written."""


@dataclass(frozen=True)
class Entry:
    """A demonstration and the place where it stands."""

    item: Demonstration
    file: str
    document: Document
    index: int

    @property
    def place(self) -> str:
        """`id (path:line)`, for findings about another one."""
        line = self.document.line_of(*demonstration_path(self.document, self.index, "id"))
        return f"{self.item.id} ({self.document.shown}:{line})"

    def find(self, name: str, message: str, mend: str, rule: str, severity: Severity = "warning") -> Finding:
        """A finding about the field `name`."""
        path = demonstration_path(self.document, self.index, name)
        return find(self.document, path, f"{self.item.id} {message}", mend, rule, severity)


@dataclass(frozen=True)
class Subject:
    """What is checked. `profiles` are those that align and could be made; `is_whole` says whether all could.

    `templates` has, by profile, those that render. `window_tokens` is what the model takes, if that is known.
    """

    folder: Folder
    profiles: Mapping[str, Profile]
    templates: Mapping[str, Template]
    is_whole: bool
    embed: Callable[[Sequence[str]], Vectors]
    tokenizer: Tokenizer
    window_tokens: int | None = None

    @cached_property
    def documents(self) -> Mapping[str, Document]:
        """The document of each profile, with what it extends merged in."""
        return resolve_profiles(replace(self.folder, findings=[]))

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """All demonstrations of all files."""
        return [
            Entry(item, name, bank.document, index)
            for name, bank in self.folder.banks.items()
            for index, item in enumerate(bank.file.demonstrations)
        ]

    @cached_property
    def by_id(self) -> Mapping[str, Entry]:
        """The entry of each demonstration by id."""
        return {entry.item.id: entry for entry in self.entries}

    @cached_property
    def vectors(self) -> Vectors:
        """The user message of each entry, float32 [entries, dimension]."""
        return self.embed([entry.item.user for entry in self.entries])

    @cached_property
    def num_tokens(self) -> Mapping[str, int]:
        """What each demonstration costs in a prompt, by id."""
        return {entry.item.id: entry.item.num_tokens(self.tokenizer.count) for entry in self.entries}

    @cached_property
    def held(self) -> Mapping[str, frozenset[str]]:
        """By profile: the ids of all demonstrations that it may show."""
        return {
            name: frozenset(item.id for item in (*profile.demonstrations, *profile.pinned))
            for name, profile in self.profiles.items()
        }

    def find_in_profile(
        self, profile: Profile, path: Path, message: str, mend: str, rule: str, severity: Severity = "warning"
    ) -> Finding:
        """A finding about a field of `profile`; one that it inherits is found where it extends."""
        return find(self.documents[profile.id], path, message, mend, rule, severity)


Rule: TypeAlias = Callable[[Subject], Iterator[Finding]]


def folded(text: str) -> str:
    """`text` as it is compared word for word: without capitals and line breaks."""
    return " ".join(text.casefold().split())


def find(document: Document, path: Path, message: str, mend: str, rule: str, severity: Severity = "warning") -> Finding:
    """A finding about the field at `path` of `document`."""
    return Finding(document.shown, document.line_of(*path), field_name(path), message, mend, rule, severity)
