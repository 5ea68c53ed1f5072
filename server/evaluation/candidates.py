"""Profiles that a search tries: one that there is, with patches over it, and what is left of them that changes it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from server.core.errors import ConfigurationError, PromptFilesError
from server.core.types import Profile, Rendering
from server.evaluation.arms import Arm, patched_arm, profile_arm
from server.evaluation.search_space import Patch, Space, Value
from server.profiles.folder import Folder, FolderReader, with_file
from server.profiles.schema import ProfileFile
from server.profiles.store import build_profiles, resolve_profiles

_TRIED = "arm-tried"


@dataclass(frozen=True)
class Start:
    """A profile to start from; `fields` are all that its file and those that it extends say, defaults included."""

    profile: Profile
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """`start` with the values chosen by coordinate. Two with the same effect are the same to a search: see `id`."""

    start: Start
    choices: Mapping[str, Value] = field(default_factory=dict)

    @property
    def patch(self) -> Patch:
        """What differs from the profile, and nothing that is so already; later coordinates go over earlier ones."""
        merged: Patch = {}
        for value in self.choices.values():
            merged = merge_patches(merged, value.patch)
        return changes_of(merged, self.start.fields)

    @property
    def id(self) -> str:
        """The profile's where nothing differs, else a hash of what does."""
        if not self.patch:
            return self.start.profile.id
        content = orjson.dumps([self.start.profile.id, self.patch], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(content).hexdigest()[:8]

    @property
    def title(self) -> str:
        """For people."""
        chosen = ", ".join(f"{name} {value.name}" for name, value in self.choices.items() if value.patch)
        return f"profile {self.start.profile.id}{' with ' if chosen else ''}{chosen}"

    def with_choice(self, order: Sequence[str], name: str, value: Value) -> "Candidate":
        """The same with another value of the coordinate `name`; coordinates stand in `order`."""
        choices = {**self.choices, name: value}
        return Candidate(self.start, {item: choices[item] for item in order if item in choices})

    def arm(self, arm: str | None = None) -> Arm:
        """For asking; by its id, unless `arm` names it."""
        arm = arm or self.id
        if not self.patch:
            return profile_arm(arm, self.start.profile.id)
        return patched_arm(arm, self.title, self.start.profile.id, self.patch)


def load_starts(prompts: Path, names: Sequence[str]) -> list[Start]:
    """The profiles of those names. Raises ConfigurationError for unknown ones, and for those that align nothing."""
    folder = FolderReader(prompts).read()
    profiles = build_profiles(folder)
    if folder.findings:
        raise PromptFilesError(folder.findings)
    for name in names:
        if name not in profiles:
            raise ConfigurationError(f"profile: there is no {name!r}; there are {', '.join(profiles)}.")
        if profiles[name].rendering is Rendering.NONE:
            raise ConfigurationError(f"profile: {name!r} adds nothing to a request, so there is nothing to tune.")
    documents = resolve_profiles(folder)
    return [
        Start(profiles[name], documents[name].check(ProfileFile).model_dump(mode="json"))
        for name in dict.fromkeys(names)
    ]


def check_space(prompts: Path, start: Start, space: Space) -> None:
    """Raises ConfigurationError with every value of `space` that makes no sound profile of `start`."""
    folder = FolderReader(prompts).read()
    findings = [
        space.finding(coordinate.name, value.name, fault)
        for coordinate in space.coordinates
        for value in coordinate.values
        for fault in _faults(folder, start, value)
    ]
    if findings:
        raise PromptFilesError(findings)


def sweep_arms(prompts: Path, profile: str, space: Space) -> list[Arm]:
    """An arm for each value of `space` that changes `profile`, named `COORDINATE-VALUE`: one change at a time.

    Raises ConfigurationError for values that make no sound profile, and where none of them changes anything.
    """
    (start,) = load_starts(prompts, [profile])
    check_space(prompts, start, space)
    tried = [
        (_slug(f"{coordinate.name} {value.name}"), Candidate(start, {coordinate.name: value}))
        for coordinate in space.coordinates
        for value in coordinate.values
    ]
    arms = [candidate.arm(name) for name, candidate in tried if candidate.patch]
    if not arms:
        raise ConfigurationError(f"sweep: nothing in it changes profile {profile!r}.")
    return arms


def merge_patches(one: Patch, other: Patch) -> Patch:
    """The patch that does what `one` and, after it, `other` do."""
    merged = dict(one)
    for key, value in other.items():
        before = merged.get(key)
        is_deeper = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = merge_patches(before, value) if is_deeper else value  # type: ignore[arg-type]  # a mapping then
    return merged


def changes_of(patch: Patch, fields: Mapping[str, Any]) -> Patch:
    """Of `patch` what makes `fields` other than they are."""
    changes: dict[str, Any] = {}
    for key, value in patch.items():
        before = fields.get(key)
        if isinstance(value, Mapping):
            changed: Any = changes_of(value, before if isinstance(before, Mapping) else {})
            if changed or not isinstance(before, Mapping):
                changes[key] = changed
        elif value != before or (value is None) != (key not in fields):
            changes[key] = value
    return changes


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _faults(folder: Folder, start: Start, value: Value) -> Sequence[Any]:
    fields = {"id": _TRIED, "extends": start.profile.id, "description": value.name, **value.patch}
    try:
        tried = with_file(folder, f"profiles/{_TRIED}.yaml", yaml.safe_dump(fields, sort_keys=False))
    except PromptFilesError as error:
        return error.findings
    build_profiles(tried)
    return [finding for finding in tried.findings if finding.path == f"profiles/{_TRIED}.yaml"]
