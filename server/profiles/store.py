"""Loads a folder of prompt files into profiles, checks that what they name exists, and versions each by content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from server.core.errors import Finding, PromptFilesError
from server.core.types import Constitution, Demonstration, Principle, Profile, Rendering, Retrieval
from server.profiles.documents import Lines, line_of, load_document
from server.profiles.schema import (
    BankFile,
    ConstitutionFile,
    DemonstrationEntry,
    PrincipleEntry,
    ProfileFile,
    RetrievalEntry,
)

FileModel = TypeVar("FileModel", bound=BaseModel)


@dataclass(frozen=True)
class _Loaded(Generic[FileModel]):
    shown: str
    file: FileModel
    lines: Lines


@dataclass
class _Folder:
    """Every file of a prompts folder, by id, with the findings collected so far."""

    constitutions: dict[str, _Loaded[ConstitutionFile]]
    banks: dict[str, _Loaded[BankFile]]
    profiles: dict[str, _Loaded[ProfileFile]]
    templates: dict[str, str]
    findings: list[Finding]


def load_profiles(directory: Path) -> Mapping[str, Profile]:
    """Every profile of `directory`, by id. Raises PromptFilesError with all findings of all files."""
    if not (directory / "profiles").is_dir():
        raise PromptFilesError([Finding(str(directory), 0, "", "is not a prompts folder: it has no folder profiles/")])
    folder = _load_folder(directory)
    demonstrations = _collect_demonstrations(folder)
    profiles = {name: _build_profile(folder, loaded, demonstrations) for name, loaded in folder.profiles.items()}
    if not profiles and not folder.findings:
        folder.findings.append(Finding("profiles", 0, "", "holds no profile"))
    if folder.findings:
        raise PromptFilesError(folder.findings)
    return {name: profile for name, profile in profiles.items() if profile is not None}


def _load_folder(directory: Path) -> _Folder:
    findings: list[Finding] = []
    return _Folder(
        constitutions=_load_kind(directory, "constitutions", ConstitutionFile, findings),
        banks=_load_kind(directory, "demonstrations", BankFile, findings),
        profiles=_load_kind(directory, "profiles", ProfileFile, findings),
        templates=_load_templates(directory, findings),
        findings=findings,
    )


def _load_kind(
    directory: Path, kind: str, model: type[FileModel], findings: list[Finding]
) -> dict[str, _Loaded[FileModel]]:
    loaded: dict[str, _Loaded[FileModel]] = {}
    misnamed = sorted((directory / kind).glob("*.yml"))
    findings.extend(Finding(f"{kind}/{path.name}", 0, "", "is not read; name it .yaml") for path in misnamed)
    for path in sorted((directory / kind).glob("*.yaml")):
        shown = f"{kind}/{path.name}"
        try:
            file, lines = load_document(path, shown, model)
        except PromptFilesError as error:
            findings.extend(error.findings)
            continue
        name = str(getattr(file, "id", ""))
        if name != path.stem:
            findings.append(Finding(shown, line_of(lines, "id"), "id", f"must be the file's name, {path.stem!r}"))
        loaded[path.stem] = _Loaded(shown, file, lines)
    return loaded


def _load_templates(directory: Path, findings: list[Finding]) -> dict[str, str]:
    templates: dict[str, str] = {}
    for path in sorted((directory / "templates").glob("*.jinja")):
        try:
            templates[path.stem] = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            findings.append(Finding(f"templates/{path.name}", 0, "", f"cannot be read as UTF-8 text: {error}"))
    return templates


def _collect_demonstrations(folder: _Folder) -> dict[str, Demonstration]:
    """All demonstrations of all banks by id; ids are unique over the whole bank."""
    found: dict[str, Demonstration] = {}
    for bank in folder.banks.values():
        for index, entry in enumerate(bank.file.demonstrations):
            if entry.id in found:
                line = line_of(bank.lines, "demonstrations", index, "id")
                folder.findings.append(Finding(bank.shown, line, "id", f"{entry.id!r} is used twice"))
            found[entry.id] = _demonstration(entry, bank.file.source)
    for bank in folder.banks.values():
        for index, entry in enumerate(bank.file.demonstrations):
            if entry.contrast is not None and entry.contrast not in found:
                line = line_of(bank.lines, "demonstrations", index, "contrast")
                folder.findings.append(Finding(bank.shown, line, "contrast", f"there is no {entry.contrast!r}"))
    return found


def _build_profile(
    folder: _Folder, loaded: _Loaded[ProfileFile], demonstrations: Mapping[str, Demonstration]
) -> Profile | None:
    file, start = loaded.file, len(folder.findings)

    def require(known: Mapping[str, Any], field: str, name: str, *path: str | int) -> None:
        if name not in known:
            folder.findings.append(
                Finding(loaded.shown, line_of(loaded.lines, field, *path), field, f"there is no {name!r}")
            )

    if file.rendering is not Rendering.NONE:
        require(folder.constitutions, "constitution", str(file.constitution))
        require(folder.templates, "template", str(file.template))
    for index, bank in enumerate(file.demonstrations):
        require(folder.banks, "demonstrations", bank, index)
    for index, name in enumerate(file.pinned):
        require(demonstrations, "pinned", name, index)
    if len(folder.findings) > start:
        return None
    constitution = folder.constitutions[file.constitution].file if file.constitution else None
    entries = [entry.id for bank in file.demonstrations for entry in folder.banks[bank].file.demonstrations]
    profile = Profile(
        id=file.id,
        version="",
        description=file.description,
        rendering=file.rendering,
        placement=file.placement,
        constitution=_constitution(constitution),
        demonstrations=tuple(demonstrations[name] for name in entries if name not in file.pinned),
        pinned=tuple(demonstrations[name] for name in file.pinned),
        retrieval=_retrieval(file.retrieval),
        template=folder.templates[file.template] if file.template else "",
        template_id=file.template or "",
        sampling=file.sampling,
        overridable=frozenset(file.overridable),
        shrinks=frozenset(file.shrinks),
        aligns_completions=file.aligns_completions,
    )
    return replace(profile, version=_version(profile))


def _version(profile: Profile) -> str:
    """The first 12 hexadecimal digits of a SHA-256 over all that the profile holds."""
    text = json.dumps(asdict(profile), sort_keys=True, default=lambda value: sorted(str(item) for item in value))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _demonstration(entry: DemonstrationEntry, source: str) -> Demonstration:
    return Demonstration(**{**entry.model_dump(), "source": entry.source or source})


def _constitution(file: ConstitutionFile | None) -> Constitution:
    if file is None:
        return Constitution("", ())
    return Constitution(file.id, tuple(_principle(entry, file.source) for entry in file.principles))


def _principle(entry: PrincipleEntry, source: str) -> Principle:
    fields = entry.model_dump() | {"routes": frozenset(entry.routes), "source": entry.source or source}
    return Principle(**fields)


def _retrieval(entry: RetrievalEntry) -> Retrieval:
    return Retrieval(**entry.model_dump())
