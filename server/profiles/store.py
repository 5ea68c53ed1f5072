"""Makes profiles of a folder's files: checks that what they name exists, and versions each by content."""

import difflib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path

import orjson

from server.core.errors import Finding, PromptFilesError
from server.core.types import Constitution, Demonstration, Principle, Profile, Rendering, Retrieval, RiskMessage
from server.profiles.documents import Document, merge
from server.profiles.folder import Folder, FolderReader
from server.profiles.schema import ConstitutionFile, PrincipleEntry, ProfileFile, RetrievalEntry

# What a profile has by files is in its version by their digests.
_BY_FILE = {"demonstrations", "risk_messages"}
NO_PROFILE = "holds no profile"
_MAX_EXTENDS = 8


class ProfileStore:
    """The profiles of one folder, however often they are asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._reader = FolderReader(directory)

    def has_settled(self) -> bool:
        """Whether any file is not what it was when it was last loaded, and none changed since this was last asked."""
        return self._reader.has_settled()

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
                # Of a fault further up, its own profile tells.
                is_own = chain[-1] is document or parent == name or len(chain) > _MAX_EXTENDS
                if is_own and not folder.may_have(f"profiles/{parent}"):
                    mend = f"extend another one of {', '.join(sorted(folder.profiles))}, or none"
                    finding = Finding(document.shown, document.line_of("extends"), "extends", fault, mend)
                    folder.findings.append(finding)
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
    return f"extends more than {_MAX_EXTENDS} profiles, one over the other" if len(heirs) > _MAX_EXTENDS else ""


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
                _find(folder, bank.document, index, "id", f"{item.id!r} is used twice", "give one of them another id")
            found[item.id] = item
    for bank in folder.banks.values():
        for index, item in enumerate(bank.file.demonstrations):
            if item.contrast is not None and item.contrast not in found and not folder.may_have("demonstrations/*"):
                mend = "name a harmful demonstration by its id"
                _find(folder, bank.document, index, "contrast", f"there is no {item.contrast!r}", mend)
    return found


def demonstration_path(document: Document, index: int, name: str) -> tuple[str | int, ...]:
    """Where `document` has the field `name` of its demonstration number `index`."""
    return (index, name) if document.shown.endswith(".jsonl") else ("demonstrations", index, name)


def _find(folder: Folder, document: Document, index: int, name: str, message: str, mend: str) -> None:
    line = document.line_of(*demonstration_path(document, index, name))
    folder.findings.append(Finding(document.shown, line, name, message, mend))


@dataclass
class _Builder:
    folder: Folder
    demonstrations: Mapping[str, Demonstration]
    # Profiles with the same bank share one tuple, and so all that is built over it.
    banks: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[tuple[Demonstration, ...], str]] = field(
        default_factory=dict
    )
    risk: dict[tuple[str, ...], tuple[tuple[RiskMessage, ...], str]] = field(default_factory=dict)

    def build(self, document: Document) -> tuple[Profile | None, Sequence[Finding]]:
        """The profile, or what keeps it from being made."""
        try:
            file = document.check(ProfileFile)
        except PromptFilesError as error:
            return None, error.findings
        missing = [] if file.rendering is Rendering.NONE else list(self._check_references(file, document))
        # Of files that could not be read, their own findings tell.
        findings = [finding for pattern, finding in missing if not self.folder.may_have(pattern)]
        return (None if missing else self._make(file)), findings

    def _make(self, file: ProfileFile) -> Profile:
        demonstrations, bank_digest = self._bank(_matching(self.folder.banks, file.demonstrations), tuple(file.pinned))
        risk_messages, risk_digest = self._risk(_matching(self.folder.risk, file.risk))
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
            aligned_routes=frozenset(file.aligned_routes),
            scope=file.scope,
            risk_messages=risk_messages,
            openings=file.openings,
            reminders=file.reminders,
        )
        return replace(profile, version=_version(profile, bank_digest, risk_digest))

    def _check_references(self, file: ProfileFile, document: Document) -> Iterator[tuple[str, Finding]]:
        """The findings about what is not there, each with the files that should have it, as a pattern of `kind/id`."""

        def found(pattern: str, message: str, known: Collection[str], *path: str | int) -> tuple[str, Finding]:
            mend = f"name one that there is{': ' if known else ''}{', '.join(sorted(known))}"
            return pattern, Finding(document.shown, document.line_of(*path), str(path[0]), message, mend)

        folder = self.folder
        constitution = folder.constitutions.get(file.constitution or "")
        if constitution is None:
            pattern, message = f"constitutions/{file.constitution}", f"there is no {file.constitution!r}"
            yield found(pattern, message, folder.constitutions, "constitution")
        else:
            dimensions = known_dimensions(constitution.file.principles)
            for name in sorted(file.scope.keys() - dimensions):
                message = f"no principle of {file.constitution} has the dimension {name!r}"
                yield found("", message, dimensions, "scope", name)
        if file.template not in folder.templates:
            yield found(f"templates/{file.template}", f"there is no {file.template!r}", folder.templates, "template")
        named: Mapping[str, tuple[Collection[str], Sequence[str]]] = {
            "demonstrations": (folder.banks, file.demonstrations),
            "risk": (folder.risk, file.risk),
        }
        for kind, (known, patterns) in named.items():
            for index, pattern in enumerate(patterns):
                if not _matching(known, [pattern]):
                    yield found(f"{kind}/{pattern}", f"there is no {pattern!r}", known, kind, index)
        for index, name in enumerate(file.pinned):
            if name not in self.demonstrations:
                close = difflib.get_close_matches(name, self.demonstrations)
                yield found("demonstrations/*", f"there is no {name!r}", close, "pinned", index)

    def _bank(self, topics: tuple[str, ...], pinned: tuple[str, ...]) -> tuple[tuple[Demonstration, ...], str]:
        if (topics, pinned) not in self.banks:
            banks = [self.folder.banks[name].file for name in topics]
            left_out = set(pinned)
            items = tuple(item for bank in banks for item in bank.demonstrations if item.id not in left_out)
            self.banks[topics, pinned] = items, " ".join(bank.digest for bank in banks)
        return self.banks[topics, pinned]

    def _risk(self, names: tuple[str, ...]) -> tuple[tuple[RiskMessage, ...], str]:
        if names not in self.risk:
            files = [self.folder.risk[name].file for name in names]
            messages = tuple(message for file in files for message in file.messages)
            self.risk[names] = messages, " ".join(file.digest for file in files)
        return self.risk[names]


def _matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that `patterns` name, in their order, each once."""
    return tuple(dict.fromkeys(name for pattern in patterns for name in names if fnmatchcase(name, pattern)))


def known_dimensions(principles: Iterable[Principle | PrincipleEntry]) -> frozenset[str]:
    """The dimensions of scope that `principles` have."""
    return frozenset(dimension for item in principles for dimension in item.scope)


def _version(profile: Profile, *digests: str) -> str:
    """The first 12 hexadecimal digits of a SHA-256 over all that the profile holds, its files by their `digests`."""
    content = {item.name: getattr(profile, item.name) for item in fields(profile) if item.name not in _BY_FILE}
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    text = orjson.dumps([content, *digests], default=sorted, option=options)
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
