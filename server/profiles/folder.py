"""Reads a folder of prompt files, again and again; a file that has not changed is not parsed anew.

What its files say of each other is checked in store.py.
"""

import hashlib
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel

from server.core.errors import Finding, PromptFilesError
from server.core.types import Demonstration, Exchange, RiskMessage
from server.profiles.documents import Document, read_json_lines, read_yaml
from server.profiles.schema import BankFile, ConstitutionFile, DemonstrationEntry, RiskFile

FileModel = TypeVar("FileModel", bound=BaseModel)
Parsed = TypeVar("Parsed")

# What a person edits is far smaller; larger banks are JSON Lines.
_MAX_YAML_BYTES = 16 * 1024 * 1024
_MAX_JSON_LINES_BYTES = 1024 * 1024 * 1024
_NUM_TRIES = 10
_KINDS = {
    "constitutions": (".yaml",),
    "demonstrations": (".yaml", ".jsonl"),
    "profiles": (".yaml",),
    "risk": (".yaml",),
    "templates": (".jinja",),
}
_MISNAMED = {".yml": ".yaml", ".json": ".yaml", ".ndjson": ".jsonl", ".j2": ".jinja", ".jinja2": ".jinja"}


@dataclass(frozen=True)
class Loaded(Generic[Parsed]):
    """One file's content with the document that it came from; that of a bank or of messages has no data, only lines."""

    document: Document
    file: Parsed


@dataclass(frozen=True)
class Bank:
    """One topic: its demonstrations, a hash of all that they say, and what the file says of itself."""

    demonstrations: tuple[Demonstration, ...]
    digest: str
    about: Mapping[str, str]


@dataclass(frozen=True)
class RiskMessages:
    """Those of one file, the harmful ones first, a hash of all that they say, and what the file says of itself."""

    messages: tuple[RiskMessage, ...]
    digest: str
    about: Mapping[str, str]


@dataclass(frozen=True)
class Folder:
    """Every file of a prompts folder by id, with the findings about single files. Profiles are not checked yet."""

    constitutions: Mapping[str, Loaded[ConstitutionFile]]
    banks: Mapping[str, Loaded[Bank]]
    risk: Mapping[str, Loaded[RiskMessages]]
    profiles: Mapping[str, Document]
    templates: Mapping[str, str]
    findings: list[Finding] = field(default_factory=list)
    faulty: frozenset[str] = frozenset()
    """The files that could not be read, as `kind/id`."""

    def may_have(self, pattern: str) -> bool:
        """Whether `pattern`, as `kind/id`, names a file that could not be read: it is there, though faulty."""
        return any(fnmatchcase(name, pattern) for name in self.faulty)


class FolderReader:
    """Reads `directory`. What it has parsed is kept until the next reading.

    An unchanged file gives the very same objects again; a changed one gives the same demonstrations where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._parsed: dict[str, _Parsed] = {}
        self._read: _State | None = None
        self._seen: _State | None = None

    def has_settled(self) -> bool:
        """Whether any file is not what it was when it was last read, and none changed since this was last asked.

        So a file that an editor is still writing is left alone, be it that half of it makes sense.
        """
        before, self._seen = self._seen, self._look()
        return self._seen not in (self._read, None) and self._seen == before

    def read(self) -> Folder:
        """The files as they lie there at one moment. Raises PromptFilesError where it is no prompts folder."""
        contents, findings = self._read_contents()
        former, self._parsed = self._parsed, {}

        def parse_all(kind: str, parse: Callable[[bytes, str, Any], Parsed]) -> dict[str, Parsed]:
            found: dict[str, Parsed] = {}
            for shown in [shown for shown in contents if shown.startswith(f"{kind}/")]:
                content, kept = contents.pop(shown), former.get(shown, _NOTHING)  # popped, since it may be large
                digest = hashlib.sha256(content).digest()
                if digest != kept.digest:
                    try:
                        kept = _Parsed(digest, parse(content, shown, kept.value))
                    except PromptFilesError as error:
                        findings.extend(error.findings)
                        self._parsed[shown] = kept  # the next edit will most likely be of that
                        continue
                self._parsed[shown] = kept
                found[_stem(shown)] = kept.value
            return found

        return Folder(
            constitutions=parse_all("constitutions", _parse_constitution),
            banks=parse_all("demonstrations", _parse_bank),
            risk=parse_all("risk", _parse_risk),
            profiles=parse_all("profiles", _parse_profile),
            templates=parse_all("templates", _parse_template),
            findings=findings,
            faulty=frozenset(finding.path.rpartition(".")[0] for finding in findings),
        )

    def _read_contents(self) -> tuple[dict[str, bytes], list[Finding]]:
        """Every file's bytes; read again where one changes meanwhile, so that no half of an edit is taken."""
        for _ in range(_NUM_TRIES):
            before = self._read = self._look()
            if not (self.directory / "profiles").is_dir():
                fault = "is not a prompts folder: it has no folder profiles/"
                raise PromptFilesError([Finding(str(self.directory), 0, "", fault)])
            findings = list(before.findings)
            contents: dict[str, bytes] = {}
            for shown in before.files:
                try:
                    contents[shown] = (self.directory / shown).read_bytes()
                except OSError as error:
                    findings.append(Finding(shown, 0, "", f"cannot be read: {error.strerror}"))
            if self._look() == before:
                break
        return contents, findings

    def _look(self) -> "_State":
        files: dict[str, _Stat] = {}
        findings: list[Finding] = []
        names: set[tuple[str, str]] = set()
        for kind, endings in _KINDS.items():
            for path in sorted(_entries(self.directory / kind)):
                # A name that is no text could not be shown; it is not found under what is shown in its place.
                shown = f"{kind}/{path.name}".encode("utf-8", "backslashreplace").decode()
                if path.suffix not in endings:
                    findings.extend(_misnamed(shown, path.suffix))
                elif (kind, path.stem) in names:
                    findings.append(Finding(shown, 0, "", f"has the name of another file, {path.stem}"))
                elif (found := _stat(path)) is None:
                    findings.append(Finding(shown, 0, "", "is not a file that can be read"))
                elif found.size_bytes > (limit := _limit(path.suffix)):
                    findings.append(Finding(shown, 0, "", f"is larger than {limit} bytes"))
                else:
                    files[shown] = found
                    names.add((kind, path.stem))
        return _State(files, tuple(findings))


class _Parsed(NamedTuple):
    """What became of a file's content, by a hash of it."""

    digest: bytes
    value: Any


_NOTHING = _Parsed(b"", None)


class _Stat(NamedTuple):
    """What tells one state of a file from another, be it replaced, written in place, or given other rights."""

    inode: int
    modified_ns: int
    changed_ns: int
    size_bytes: int


@dataclass(frozen=True)
class _State:
    """What a look at the folder shows: its files by path, and what is wrong before any is read."""

    files: Mapping[str, _Stat]
    findings: tuple[Finding, ...]


def with_file(folder: Folder, shown: str, text: str) -> Folder:
    """`folder` as if its file `shown` held `text`, without its findings. Raises PromptFilesError."""

    def added(
        kind: str, files: Mapping[str, Parsed], parse: Callable[[bytes, str, Any], Parsed]
    ) -> Mapping[str, Parsed]:
        is_kind = shown.startswith(f"{kind}/")
        return {**files, _stem(shown): parse(text.encode(), shown, None)} if is_kind else files

    return Folder(
        constitutions=added("constitutions", folder.constitutions, _parse_constitution),
        banks=added("demonstrations", folder.banks, _parse_bank),
        risk=added("risk", folder.risk, _parse_risk),
        profiles=added("profiles", folder.profiles, _parse_profile),
        templates=added("templates", folder.templates, _parse_template),
    )


def _entries(directory: Path) -> Iterable[Path]:
    try:
        return [path for path in directory.iterdir() if not path.name.startswith((".", "~", "#"))]
    except OSError:
        return []


def _misnamed(shown: str, ending: str) -> list[Finding]:
    if ending not in _MISNAMED:
        return []  # an editor's backup, a README: nobody takes it for a prompt file
    return [Finding(shown, 0, "", f"is not read; name it {_MISNAMED[ending]}")]


def _stat(path: Path) -> _Stat | None:
    try:
        found = path.stat()
    except (OSError, RuntimeError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return _Stat(found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _limit(ending: str) -> int:
    return _MAX_JSON_LINES_BYTES if ending == ".jsonl" else _MAX_YAML_BYTES


def _stem(shown: str) -> str:
    return shown.rpartition("/")[2].rpartition(".")[0]


def _decode(content: bytes, shown: str) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PromptFilesError([Finding(shown, line, "", f"is not UTF-8 text: {error.reason}")]) from error


def _parse_template(content: bytes, shown: str, _: object) -> str:
    return _decode(content, shown)


def _parse_profile(content: bytes, shown: str, _: object) -> Document:
    document = read_yaml(_decode(content, shown), shown)
    if not isinstance(document.data, dict):
        raise PromptFilesError([Finding(shown, 1, "", "must be a mapping of fields, such as `id: ...`")])
    _check_name(document, document.data.get("id"))
    return document


def _parse_constitution(content: bytes, shown: str, _: object) -> Loaded[ConstitutionFile]:
    document = read_yaml(_decode(content, shown), shown)
    file = document.check(ConstitutionFile)
    _check_name(document, file.id)
    return Loaded(document, file)


def _parse_bank(content: bytes, shown: str, former: Loaded[Bank] | None) -> Loaded[Bank]:
    known = {item.id: item for item in former.file.demonstrations} if former else {}

    def make(entry: DemonstrationEntry, source: str) -> Demonstration:
        item = _demonstration(entry, _stem(shown), source)
        before = known.get(item.id)
        return before if before == item else item

    if shown.endswith(".jsonl"):
        about: dict[str, str] = {}
        made, document = read_json_lines(
            content, shown, lambda data: make(DemonstrationEntry.model_validate(data), shown)
        )
    else:
        document = read_yaml(_decode(content, shown), shown)
        file = document.check(BankFile)
        _check_name(document, file.id)
        about = {"description": file.description, "source": file.source}
        made = [make(entry, file.source) for entry in file.demonstrations]
    return Loaded(replace(document, data=None), Bank(tuple(made), _digest(made), about))


def _parse_risk(content: bytes, shown: str, _: object) -> Loaded[RiskMessages]:
    document = read_yaml(_decode(content, shown), shown)
    file = document.check(RiskFile)
    _check_name(document, file.id)
    made = [
        RiskMessage(text, is_harmful, file.id)
        for is_harmful, texts in ((True, file.harmful), (False, file.harmless))
        for text in texts
    ]
    about = {"description": file.description, "source": file.source}
    return Loaded(replace(document, data=None), RiskMessages(tuple(made), _digest(made), about))


def _digest(items: Iterable[Demonstration | RiskMessage]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(orjson.dumps(item))
    return digest.hexdigest()


def _check_name(document: Document, identifier: object) -> None:
    if identifier != (stem := _stem(document.shown)):
        raise PromptFilesError(
            [Finding(document.shown, document.line_of("id"), "id", f"must be the file's name, {stem!r}")]
        )


def _demonstration(entry: DemonstrationEntry, topic: str, source: str) -> Demonstration:
    return Demonstration(
        id=entry.id,
        topic=entry.topic or topic,
        aspect=entry.aspect,
        risk=entry.risk,
        user=entry.user,
        assistant=entry.assistant,
        source=entry.source or source,
        contrast=entry.contrast,
        language=entry.language,
        history=tuple(Exchange(item.user, item.assistant) for item in entry.history),
    )
