"""The prompts in force and the versions before them. Loads the folder anew when its files change.

A request takes `Library.current` once and keeps it to its end, so that it sees one version; a change replaces the whole
at once, and a faulty one replaces nothing.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread
from jinja2 import Template

from server.core.errors import ConfigurationError, Finding, PromptFilesError
from server.core.types import Profile, Rendering
from server.profiles.resolve import Profiles
from server.profiles.store import ProfileStore
from server.rendering.context import check_template
from server.rendering.environment import compile_template
from server.retrieval.retriever import Retriever, Retrievers

_logger = logging.getLogger(__name__)

# A look at every file's time and size: half a millisecond for fifty files, and right on every file system, mounts
# included. What two looks in a row find alike is no edit half written.
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Ready:
    """One version of a profile that aligns, with what is built from it."""

    profile: Profile
    retriever: Retriever
    template: Template


@dataclass(frozen=True)
class Prompts:
    """One consistent set of profiles, by a hash of their versions. `ready` has every kept one by `id@version`.

    `findings` say why the files, as they lie there now, do not take its place.
    """

    version: str
    profiles: Profiles
    ready: Mapping[str, Ready]
    default_profile: str
    loaded_at_s: float
    findings: Sequence[Finding] = ()


class Library:
    """Holds the prompts of one folder. `current` is replaced, never changed, so that any thread may take it."""

    def __init__(
        self,
        store: ProfileStore,
        retrievers: Retrievers,
        *,
        default_profile: str,
        required: Mapping[str, str] | None = None,
        num_versions: int = 8,
    ) -> None:
        """Load the folder. `required` has, by profile id, who asks for it; `num_versions` can be asked for at a time.

        Raises ConfigurationError.
        """
        self._store = store
        self._retrievers = retrievers
        self._default_profile = default_profile
        self._required = {default_profile: "default_profile", **(required or {})}
        self._num_versions = num_versions
        self._history: dict[str, tuple[Mapping[str, Profile], Mapping[str, Ready]]] = {}
        self.num_changes = 0
        self.num_failures = 0
        self.current = self._load()

    def refresh(self) -> None:
        """Load the folder if its files have changed since they were loaded, but not since the call before this one.

        A faulty change is logged, and what was in force stays.
        """
        try:
            if not self._store.has_settled():
                return
            prompts = self._load()
        except ConfigurationError as error:
            self._refuse(_findings_of(error))
        except Exception as error:  # whatever is wrong with the files, the server goes on
            _logger.exception("The prompts in %s could not be loaded.", self._store.directory)
            self._refuse([Finding("profiles", 0, "", f"could not be loaded: {error!r:.500}", "see the server's log")])
        else:
            self._replace(prompts)

    async def watch(self) -> None:
        """Refresh for ever, in a thread of its own."""
        thread = anyio.CapacityLimiter(1)
        while True:
            await anyio.sleep(_LOOK_EVERY_S)
            await anyio.to_thread.run_sync(self.refresh, limiter=thread)

    def _replace(self, prompts: Prompts) -> None:
        if prompts.version != self.current.version:
            self.num_changes += 1
            _logger.info("Prompts %s replace %s.", prompts.version, self.current.version)
        elif self.current.findings:
            _logger.info("The prompts are as they were again: %s.", prompts.version)
        self.current = prompts

    def _refuse(self, findings: Sequence[Finding]) -> None:
        self.num_failures += 1
        self.current = replace(self.current, findings=findings)
        where, version = self._store.directory, self.current.version
        listed = "\n".join(map(str, findings))
        _logger.error("The prompts in %s are faulty; %s stay in force:\n%s", where, version, listed)

    def _load(self) -> Prompts:
        profiles = self._store.load()
        for name, wanted_by in self._required.items():
            if name not in profiles:
                there_are = ", ".join(sorted(profiles))
                raise ConfigurationError(f"{wanted_by}: there is no profile {name!r}; there are {there_are}.")
        aligned = [profile for profile in profiles.values() if profile.rendering is not Rendering.NONE]
        templates = _compile_templates(aligned)
        retrievers = self._retrievers.build(aligned)
        ready = {item.label: Ready(item, retrievers[item.label], templates[item.label]) for item in aligned}
        version = version_of(profiles.values())
        self._remember(version, profiles, ready)
        kept = {item.label: item for known, _ in self._history.values() for item in known.values()}
        in_force = {item.label: item for item in profiles.values()}
        return Prompts(
            version=version,
            # Those in force last, be it that they were so before.
            profiles=Profiles(profiles, {name: kept[name] for name in kept if name not in in_force} | in_force),
            ready={label: item for _, known in self._history.values() for label, item in known.items()},
            default_profile=self._default_profile,
            loaded_at_s=time.time(),
        )

    def _remember(self, version: str, profiles: Mapping[str, Profile], ready: Mapping[str, Ready]) -> None:
        """As the latest; the oldest ones beyond the number kept are forgotten."""
        self._history.pop(version, None)
        self._history[version] = (profiles, ready)
        while len(self._history) > self._num_versions:
            del self._history[next(iter(self._history))]


def version_of(profiles: Iterable[Profile]) -> str:
    """A hash of the versions of `profiles` together: 12 hexadecimal digits."""
    return hashlib.sha256(" ".join(sorted(item.label for item in profiles)).encode()).hexdigest()[:12]


def _compile_templates(profiles: Sequence[Profile]) -> Mapping[str, Template]:
    """The template of each profile by label. Raises PromptFilesError with the findings of all."""
    compiled: dict[str, Template] = {}
    findings: list[Finding] = []
    templates: dict[str, Template] = {}
    for profile in profiles:
        shown = f"templates/{profile.template_id}.jinja"
        try:
            if profile.template not in compiled:
                template = compile_template(profile.template, shown)
                check_template(profile, template)
                compiled[profile.template] = template
            templates[profile.label] = compiled[profile.template]
        except PromptFilesError as error:
            findings.extend(item for item in error.findings if item not in findings)
    if findings:
        raise PromptFilesError(findings)
    return templates


def _findings_of(error: ConfigurationError) -> Sequence[Finding]:
    return error.findings if isinstance(error, PromptFilesError) else [Finding("profiles", 0, "", str(error))]
