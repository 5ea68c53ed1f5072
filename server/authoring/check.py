"""All that is wrong or doubtful in a folder of prompt files, found at once; what cannot be read hides nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Template

from server.authoring.prompt_tests import check_names, load_cases
from server.authoring.rules import budgets, demonstrations, pairs, placeholders, principles, reach, risk
from server.authoring.rules.base import Rule, Subject
from server.core.errors import Finding, PromptFilesError
from server.core.types import Profile, Rendering, Vectors
from server.library import version_of
from server.profiles.folder import Folder, FolderReader
from server.profiles.store import build_profiles
from server.rendering.context import check_template
from server.rendering.environment import compile_template
from server.rendering.tokens import Tokenizer

_RULES: Sequence[Rule] = (
    demonstrations.check_same,
    demonstrations.check_near,
    risk.check_messages,
    risk.check_demonstrations,
    pairs.check_contrasts,
    pairs.check_refusals,
    pairs.check_pinned,
    principles.check_ids,
    principles.check_fields,
    principles.check_pairs,
    placeholders.check_written,
    budgets.check_budgets,
    budgets.check_windows,
    reach.check_files,
    reach.check_principles,
    reach.check_quotas,
    reach.check_routes,
    reach.check_templates,
)


@dataclass(frozen=True)
class Checked:
    """What was found, by file and line. `version` is that of the prompts, None where a server would refuse them."""

    version: str | None
    findings: Sequence[Finding]

    @property
    def num_errors(self) -> int:
        """What is wrong for certain."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def num_warnings(self) -> int:
        """What a person should look at."""
        return len(self.findings) - self.num_errors


def check_folder(
    directory: Path,
    embed: Callable[[Sequence[str]], Vectors],
    tokenizer: Tokenizer,
    window_tokens: int | None = None,
) -> Checked:
    """Check every file of `directory`. Raises PromptFilesError where it is no prompts folder."""
    folder = FolderReader(directory).read()
    profiles = build_profiles(folder)
    aligned = {name: item for name, item in profiles.items() if item.rendering is not Rendering.NONE}
    templates, faults = _compile(folder, aligned)
    faults = [*folder.findings, *faults]
    is_loaded = not faults
    is_whole = len(profiles) == len(folder.profiles) and not any(item.path.startswith("profiles") for item in faults)
    subject = Subject(folder, aligned, templates, is_whole, embed, tokenizer, window_tokens)
    found = [*faults, *(finding for rule in _RULES for finding in rule(subject))]
    found += _check_tests(directory, profiles) if is_loaded else []
    version = version_of(profiles.values()) if is_loaded else None
    return Checked(version, sorted(found, key=lambda item: (item.path, item.line, item.severity)))


def _check_tests(directory: Path, profiles: Mapping[str, Profile]) -> Sequence[Finding]:
    try:
        check_names(load_cases(directory), profiles)
    except PromptFilesError as error:
        return error.findings
    return []


def _compile(folder: Folder, profiles: Mapping[str, Profile]) -> tuple[Mapping[str, Template], Sequence[Finding]]:
    """The templates of those profiles that render, and what is wrong with all others."""
    compiled: dict[str, Template] = {}
    rendered: dict[str, Template] = {}
    findings: dict[Finding, None] = {}
    for name, source in folder.templates.items():
        try:
            compiled[name] = compile_template(source, f"templates/{name}.jinja")
        except PromptFilesError as error:
            findings.update(dict.fromkeys(error.findings))
    for name, profile in profiles.items():
        if profile.template_id in compiled:
            try:
                check_template(profile, compiled[profile.template_id])
                rendered[name] = compiled[profile.template_id]
            except PromptFilesError as error:
                findings.update(dict.fromkeys(error.findings))
    return rendered, list(findings)
