"""Makes profiles of a folder's files: checks that what they name exists, and versions each by content."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path

import orjson

from server.core.errors import Finding, PromptFilesError
from server.core.types import Constitution, Demonstration, Principle, Profile, Rendering, Retrieval
from server.profiles.documents import Document, merge
from server.profiles.folder import Folder, FolderReader
from server.profiles.schema import ConstitutionFile, PrincipleEntry, ProfileFile, RetrievalEntry

NO_PROFILE = "holds no profile"


class ProfileStore:
    """The profiles of one folder, however often they are asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._reader = FolderReader(directory)

    def has_changed(self) -> bool:
        """Whether any file is not what it was when it was last loaded."""
        return self._reader.has_changed()

    def load(self) -> Mapping[str, Profile]:
        """Every profile by id. Raises PromptFilesError with all findings of all files."""
        folder = self._reader.read()
        profiles = build_profiles(folder)
        if folder.findings:
            raise PromptFilesError(folder.findings)
        return profiles


def load_profiles(directory: Path) -> Mapping[str, Profile]:
    """Every profile of `directory`, by id. Raises PromptFilesError with all findings of all files."""
    return ProfileStore(directory).load()


def build_profiles(folder: Folder) -> Mapping[str, Profile]:
    """The profiles of `folder` that can be made; findings about the others are added to it."""
    builder = _Builder(folder, _index_demonstrations(folder))
    documents = resolve_profiles(folder)
    profiles: dict[str, Profile] = {}
    findings: dict[str, Sequence[Finding]] = {}
    for name, document in documents.items():
        profile, findings[name] = builder.build(document)
        if profile is not None:
            profiles[name] = profile
    for name, document in documents.items():
        folder.findings.extend(_own(document, findings[name], inherited=findings.get(document.data.get("extends"), [])))
    if not documents and not folder.findings:
        folder.findings.append(Finding("profiles", 0, "", NO_PROFILE))
    return profiles


def _own(document: Document, findings: Sequence[Finding], *, inherited: Sequence[Finding]) -> Iterable[Finding]:
    """The findings of a profile, without those that are found in the one it extends."""
    known = {(finding.field, finding.message) for finding in inherited}
    line = document.line_of("extends")
    return (item for item in findings if item.line != line or (item.field, item.message) not in known)


def resolve_profiles(folder: Folder) -> Mapping[str, Document]:
    """Each profile's document with what it extends merged in; findings about the others are added to `folder`."""
    resolved: dict[str, Document] = {}
    for name, document in folder.profiles.items():
        chain = [document]
        while (parent := chain[-1].data.get("extends")) is not None:
            fault = _extends_fault(folder, parent, [item.data["id"] for item in chain])
            if fault:
                shown = chain[-1].shown
                if chain[-1] is document:  # the others find it in their own turn
                    folder.findings.append(Finding(shown, document.line_of("extends"), "extends", fault))
                break
            chain.append(folder.profiles[parent])
        else:
            resolved[name] = _merge_chain(chain)
    return resolved


def _extends_fault(folder: Folder, parent: object, heirs: list[str]) -> str:
    if not isinstance(parent, str) or parent not in folder.profiles:
        return f"there is no profile {parent!r}"
    if parent in heirs:
        return f"goes round in a circle: {' extends '.join([*heirs, parent])}"
    return ""


def _merge_chain(chain: list[Document]) -> Document:
    """The first of `chain`, which extends the second, and so on. An id and a description are a profile's own."""
    merged = chain[-1]
    for document in reversed(chain[:-1]):
        inherited = {name: value for name, value in merged.data.items() if name not in {"id", "description"}}
        merged = merge(replace(merged, data=inherited), document, line=document.line_of("extends"))
    return merged


def _index_demonstrations(folder: Folder) -> dict[str, Demonstration]:
    """All demonstrations of all banks by id; ids are unique over the whole bank."""
    found: dict[str, Demonstration] = {}
    for bank in folder.banks.values():
        for index, item in enumerate(bank.file.demonstrations):
            if item.id in found:
                _find(folder, bank.document, index, "id", f"{item.id!r} is used twice")
            found[item.id] = item
    for bank in folder.banks.values():
        for index, item in enumerate(bank.file.demonstrations):
            if item.contrast is not None and item.contrast not in found:
                _find(folder, bank.document, index, "contrast", f"there is no {item.contrast!r}")
    return found


def _find(folder: Folder, document: Document, index: int, name: str, message: str) -> None:
    path = (index, name) if document.shown.endswith(".jsonl") else ("demonstrations", index, name)
    folder.findings.append(Finding(document.shown, document.line_of(*path), name, message))


@dataclass
class _Builder:
    folder: Folder
    demonstrations: Mapping[str, Demonstration]
    # Profiles with the same bank share one tuple, and so all that is built over it.
    banks: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[tuple[Demonstration, ...], str]] = field(
        default_factory=dict
    )

    def build(self, document: Document) -> tuple[Profile | None, Sequence[Finding]]:
        """The profile, or what keeps it from being made."""
        try:
            file = document.check(ProfileFile)
        except PromptFilesError as error:
            return None, error.findings
        findings = [] if file.rendering is Rendering.NONE else self._check_references(file, document)
        return (None if findings else self._make(file)), findings

    def _make(self, file: ProfileFile) -> Profile:
        demonstrations, digest = self._bank(self._topics(file.demonstrations), tuple(file.pinned))
        constitution = self.folder.constitutions[file.constitution].file if file.constitution else None
        profile = Profile(
            id=file.id,
            version="",
            description=file.description,
            rendering=file.rendering,
            placement=file.placement,
            constitution=_constitution(constitution),
            demonstrations=demonstrations,
            pinned=tuple(self.demonstrations[name] for name in file.pinned),
            retrieval=_retrieval(file.retrieval),
            template=self.folder.templates[file.template] if file.template else "",
            template_id=file.template or "",
            sampling=file.sampling,
            overridable=frozenset(file.overridable),
            shrinks=frozenset(file.shrinks),
            aligns_completions=file.aligns_completions,
            scope=file.scope,
        )
        return replace(profile, version=_version(profile, digest))

    def _check_references(self, file: ProfileFile, document: Document) -> list[Finding]:
        findings: list[Finding] = []

        def find(message: str, *path: str | int) -> None:
            findings.append(Finding(document.shown, document.line_of(*path), str(path[0]), message))

        constitution = self.folder.constitutions.get(file.constitution or "")
        if constitution is None:
            find(f"there is no {file.constitution!r}", "constitution")
        else:
            dimensions = known_dimensions(constitution.file.principles)
            for name in sorted(file.scope.keys() - dimensions):
                find(f"no principle of {file.constitution} has the dimension {name!r}", "scope", name)
        if file.template not in self.folder.templates:
            find(f"there is no {file.template!r}", "template")
        for index, pattern in enumerate(file.demonstrations):
            if not self._topics([pattern]):
                find(f"there is no {pattern!r}", "demonstrations", index)
        for index, name in enumerate(file.pinned):
            if name not in self.demonstrations:
                find(f"there is no {name!r}", "pinned", index)
        return findings

    def _topics(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """The files of the bank that `patterns` name, in their order, each once."""
        names = [name for pattern in patterns for name in self.folder.banks if fnmatchcase(name, pattern)]
        return tuple(dict.fromkeys(names))

    def _bank(self, topics: tuple[str, ...], pinned: tuple[str, ...]) -> tuple[tuple[Demonstration, ...], str]:
        if (topics, pinned) not in self.banks:
            banks = [self.folder.banks[name].file for name in topics]
            left_out = set(pinned)
            items = tuple(item for bank in banks for item in bank.demonstrations if item.id not in left_out)
            self.banks[topics, pinned] = items, " ".join(bank.digest for bank in banks)
        return self.banks[topics, pinned]


def known_dimensions(principles: Iterable[Principle | PrincipleEntry]) -> frozenset[str]:
    """The dimensions of scope that `principles` have."""
    return frozenset(dimension for item in principles for dimension in item.scope)


def _version(profile: Profile, bank_digest: str) -> str:
    """The first 12 hexadecimal digits of a SHA-256 over all that the profile holds, its bank by `bank_digest`."""
    content = {item.name: getattr(profile, item.name) for item in fields(profile) if item.name != "demonstrations"}
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    text = orjson.dumps([content, bank_digest], default=sorted, option=options)
    return hashlib.sha256(text).hexdigest()[:12]


def _constitution(file: ConstitutionFile | None) -> Constitution:
    if file is None:
        return Constitution("", ())
    return Constitution(file.id, tuple(_principle(entry, file.source) for entry in file.principles))


def _principle(entry: PrincipleEntry, source: str) -> Principle:
    given = entry.model_dump()
    scope = {dimension: tuple(values) for dimension, values in entry.scope.items()}
    return Principle(**{**given, "routes": frozenset(entry.routes), "source": entry.source or source, "scope": scope})


def _retrieval(entry: RetrievalEntry) -> Retrieval:
    return Retrieval(**entry.model_dump())
