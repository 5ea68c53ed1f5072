"""Writes starting files, and adds demonstrations to files that exist without touching anything else in them.

What is written is checked first, so that a server that watches the folder never sees a faulty file.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from server.authoring.rules.base import PLACEHOLDER
from server.authoring.schemas import FOLDER as SCHEMAS
from server.core.errors import ConfigurationError, PromptFilesError
from server.core.types import Rendering, Risk
from server.profiles.documents import read_yaml
from server.profiles.folder import Folder, FolderReader, with_file
from server.profiles.schema import SLUG_PATTERN, BankFile
from server.profiles.store import build_profiles
from server.rendering.environment import compile_template

_DESCRIPTION = f"{PLACEHOLDER} say whom or what it is for, in a sentence."
_SOURCE = f"{PLACEHOLDER} say who wrote it, or what it follows."
_SLUG = re.compile(SLUG_PATTERN)
_NEW_FILE_MODE = 0o644
_HEADER = "# yaml-language-server: $schema=../{folder}/{kind}.json\n"

_EXTENDING = """\
{header}# Only what differs from {extends}: mappings are merged, null takes a field out, all else is replaced.
id: {id}
extends: {extends}
description: {description}
{given}"""

_PROFILE = """\
{header}# Everything that decides how a request is aligned. Clients ask for it by `model: "NAME:{id}"`.
id: {id}
description: {description}
# chat for models with a chat template, completion for base models.
rendering: {rendering}
constitution: {constitution}
template: {template}
# Files of demonstrations/ to retrieve from; "harm-*" takes all that match.
demonstrations: ["*"]
# Demonstrations in every prompt, by id. A refusal here needs its look-alike beside it.
pinned: []
retrieval:
  # At most so many, within so many tokens.
  num_demonstrations: 4
  budget_tokens: 1200
  # Demonstrations less similar to the request than this are left out.
  min_similarity: 0.2
  num_principles: 2
  num_neighbours: 32
  # Risk scores, 0 to 1, at which the elevated and the high route begin.
  thresholds: [0.42, 0.49]
  # For each route, how many demonstrations of each risk a prompt may hold.
  quotas:
    low: {{benign: 4, sensitive: 2, lookalike: 1}}
    elevated: {{harmful: 2, lookalike: 2, sensitive: 1}}
    high: {{harmful: 3, lookalike: 1}}
# What a request may set for itself.
overridable: []
{sampling}"""

_SAMPLING = """\
# The completions endpoint stops after 16 tokens unless told otherwise.
sampling:
  max_tokens: 512
"""

_CONSTITUTION = """\
{header}# Pinned principles are in every prompt; the others join when a request is near their `when` text. Three to five
# pinned ones are plenty. Each says in one sentence what to do, so that a reader can see in an answer whether it was.
id: {id}
description: {description}
source: {source}
principles:
  - id: say-what-you-know
    text: Say what you know, mark what you are unsure of, and never make up facts or sources.
    aspect: honest
    weight: 2.0
    pinned: true

  - id: first-rule
    text: {text}
    # The words that such requests use; requests are compared with them.
    when: {when}
    # helpful, honest, harmless or respectful
    aspect: helpful
    weight: 1.0
"""

_BANK = """\
{header}# One topic of the bank. Requests are compared with `user`; the answer to imitate is `assistant`.
id: {id}
description: {description}
source: {source}
demonstrations:
"""


def new_profile(
    directory: Path,
    identifier: str,
    *,
    extends: str | None = None,
    rendering: Rendering | None = None,
    constitution: str | None = None,
    template: str | None = None,
    description: str | None = None,
) -> Path:
    """Write profiles/ID.yaml. Raises ConfigurationError, and then nothing is written."""
    name = f"{identifier}.yaml"
    values = {
        "header": _header("profile"),
        "id": _scalar(identifier),
        "description": _scalar(description or _DESCRIPTION),
    }
    if extends is not None:
        given = {"rendering": rendering, "constitution": constitution, "template": template}
        lines = "".join(f"{field}: {_scalar(str(value))}\n" for field, value in given.items() if value is not None)
        text = _EXTENDING.format(**values, extends=_scalar(extends), given=lines)
        return _write_new(directory, "profiles", name, text)
    is_completion = rendering is Rendering.COMPLETION
    values |= {
        "rendering": str(rendering or Rendering.CHAT),
        "constitution": _scalar(constitution or "general"),
        "template": _scalar(template or ("completion" if is_completion else "chat")),
        "sampling": _SAMPLING if is_completion else "",
    }
    return _write_new(directory, "profiles", name, _PROFILE.format(**values))


def new_constitution(directory: Path, identifier: str, *, description: str | None = None) -> Path:
    """Write constitutions/ID.yaml. Raises ConfigurationError, and then nothing is written."""
    text = _CONSTITUTION.format(
        header=_header("constitution"),
        id=_scalar(identifier),
        description=_scalar(description or _DESCRIPTION),
        source=_scalar(_SOURCE),
        text=_scalar(f"{PLACEHOLDER} say in one sentence what to do."),
        when=_scalar(f"{PLACEHOLDER} in a few words, what requests it is for."),
    )
    return _write_new(directory, "constitutions", f"{identifier}.yaml", text)


def new_template(directory: Path, identifier: str, *, template: str = "chat") -> Path:
    """Write templates/ID.jinja as a copy of `template`. Raises ConfigurationError, and then nothing is written."""
    source = FolderReader(directory).read().templates.get(template)
    if source is None:
        raise ConfigurationError(f"There is no template {template!r} in {directory} to start from.")
    return _write_new(directory, "templates", f"{identifier}.jinja", source)


def new_demonstration(
    directory: Path,
    identifier: str,
    topic: str,
    *,
    risk: Risk | None = None,
    aspect: str | None = None,
    user: str | None = None,
    assistant: str | None = None,
    contrast: str | None = None,
    language: str | None = None,
) -> Path:
    """Add an entry to demonstrations/TOPIC.yaml or .jsonl, which is made where there is none.

    All else in the file stays as it is, byte for byte. Raises ConfigurationError, and then nothing is written.
    """
    _check_id(topic)
    risk = risk or (Risk.LOOKALIKE if contrast else Risk.BENIGN)
    fields = {
        "id": identifier,
        "aspect": aspect or ("harmless" if risk is Risk.HARMFUL else "helpful"),
        "risk": risk.value,
        "language": language,
        "contrast": contrast,
        "user": (user or f"{PLACEHOLDER} the message, as a person would type it.").strip(),
        "assistant": (assistant or f"{PLACEHOLDER} the answer to imitate.").strip(),
    }
    entry = {name: value for name, value in fields.items() if value is not None}
    lines = directory / "demonstrations" / f"{topic}.jsonl"
    path = lines if lines.exists() else directory / "demonstrations" / f"{topic}.yaml"
    shown = f"demonstrations/{path.name}"
    if not path.exists():
        header = {"header": _header("demonstrations"), "id": _scalar(topic), "source": _scalar(_SOURCE)}
        start = _BANK.format(**header, description=_scalar(f"{PLACEHOLDER} say what it holds, in a sentence."))
        return _write(directory, shown, start + _item(entry, indent=2))
    text = _read(path)
    if path == lines:
        gap = "" if not text or text.endswith("\n") else "\n"
        return _write(directory, shown, f"{text}{gap}{orjson.dumps(entry).decode()}\n")
    return _write(directory, shown, add_demonstration(text, entry, shown))


def add_demonstration(text: str, entry: Mapping[str, str], shown: str) -> str:
    """`text` of a YAML bank with `entry` after its last demonstration; findings call it `shown`.

    Raises ConfigurationError where it cannot be added without changing what is there.
    """
    document = read_yaml(text, shown)
    document.check(BankFile)
    before = document.data
    node = _sequence(text, shown)
    # A sequence ends where the next thing begins; blank lines and comments before that belong to the next thing.
    head, tail = text[: node.end_mark.index], text[node.end_mark.index :]
    lines = head.split("\n")
    indent = node.start_mark.column
    while lines and _is_between(lines[-1], indent):
        lines.pop()
    kept = "\n".join(lines)
    between = head[len(kept) :].removeprefix("\n") + tail
    gap = "" if before["demonstrations"][-1]["id"] == entry.get("contrast") else "\n"
    added = f"\n{gap}{_item(entry, indent)}"
    if "\r\n" in text:
        kept, added = kept.removesuffix("\r"), added.replace("\n", "\r\n")
    after = kept + added + between
    if read_yaml(after, shown).data != {**before, "demonstrations": [*before["demonstrations"], dict(entry)]}:
        raise ConfigurationError(f"{shown}: the demonstration cannot be added to this form of YAML; write it by hand.")
    return after


def _sequence(text: str, shown: str) -> Any:
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((value for key, value in pairs if key.value == "demonstrations"), None)
    if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
        raise ConfigurationError(f"{shown}: there is no list of demonstrations to add to, an item on each line.")
    return node


def _is_between(line: str, indent: int) -> bool:
    """Whether it is blank or a comment, and no line of a text, which stands further in."""
    stripped = line.strip()
    return not stripped or (stripped.startswith("#") and len(line) - len(line.lstrip()) <= indent)


class _Block(str):
    """Text to be written as a block, whatever is in it."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def _item(entry: Mapping[str, str], indent: int) -> str:
    shown = {name: _Block(text) if name == "assistant" or "\n" in text else text for name, text in entry.items()}
    text = yaml.dump([shown], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
    return "\n".join(f"{' ' * indent}{line}" if line.strip() else line for line in text.split("\n"))


def _scalar(text: str) -> str:
    """`text` as it stands in a YAML mapping, with quotes where it needs them."""
    return str(yaml.safe_dump([text], allow_unicode=True, width=2**31)).removeprefix("- ").rstrip("\n")


def _header(kind: str) -> str:
    return _HEADER.format(folder=SCHEMAS, kind=kind)


def _read(path: Path) -> str:
    """The text with its line ends as they are."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _check_id(identifier: str) -> None:
    if not _SLUG.fullmatch(identifier):
        raise ConfigurationError(f"{identifier!r} is no id: small letters, digits and hyphens make one.")


def _write_new(directory: Path, kind: str, name: str, text: str) -> Path:
    _check_id(name.rpartition(".")[0])
    shown = f"{kind}/{name}"
    if (directory / shown).exists():
        raise ConfigurationError(f"{directory / shown} is there already; choose another id, or edit it.")
    return _write(directory, shown, text)


def _write(directory: Path, shown: str, text: str) -> Path:
    """Write what is sound, in one step, so that nobody reads half of it. Raises PromptFilesError."""
    _check(FolderReader(directory).read(), shown, text)
    path = directory / shown
    path.parent.mkdir(exist_ok=True)
    mode = path.stat().st_mode if path.exists() else _NEW_FILE_MODE
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
    Path(scratch).chmod(mode)
    Path(scratch).replace(path)
    return path


def _check(folder: Folder, shown: str, text: str) -> None:
    """Raises PromptFilesError for what would be wrong with `text` there that is not wrong now."""
    if shown.startswith("templates/"):
        compile_template(text, shown)
    before, after = replace(folder, findings=[]), with_file(folder, shown, text)
    build_profiles(before)
    build_profiles(after)
    if found := [finding for finding in after.findings if finding not in before.findings]:
        raise PromptFilesError(found)
