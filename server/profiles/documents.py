"""Reads YAML and JSON Lines against a schema and reports faults with file, line and field.

YAML is read from its events, in one pass and without recursion: prompt files may be large, broken or hostile. Anchors,
aliases and tags, which no prompt file needs and which can make a small file grow without bound, are refused.
"""

from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any, TypeVar

import orjson
import yaml
from pydantic import BaseModel, ValidationError

from server.core.errors import Finding, PromptFilesError

FileModel = TypeVar("FileModel", bound=BaseModel)
Item = TypeVar("Item")
Path = tuple[str | int, ...]
Lines = dict[Path, int]

_MAX_DEPTH = 32
_MAX_FINDINGS = 100
# No number, date or truth value is longer; reading a longer one as such could take for ever.
_MAX_PLAIN_CHARS = 100
# The parser in C is twenty times as fast, and every wheel of PyYAML has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MISSING = object()
# What to do about a fault, by pydantic's name for it.
_MENDS = {
    "extra_forbidden": "correct the field's spelling, or take it out",
    "missing": "add the field",
    "string_type": "put quotes around the text",
}


@dataclass(frozen=True)
class Document:
    """The data of one file. Where a key stands is found out only when a finding needs it."""

    shown: str
    data: Any
    find_lines: Callable[[], Lines]

    @cached_property
    def _lines(self) -> Lines:
        return self.find_lines()

    def line_of(self, *path: str | int) -> int:
        """The line of the nearest enclosing key or item that is in the file, from 1."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def check(self, model: type[FileModel]) -> FileModel:
        """The data as `model`. Raises PromptFilesError with a finding for every fault."""
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            faults = error.errors(include_url=False)[:_MAX_FINDINGS]
            findings = [_finding(fault, self.shown, self.line_of(*fault["loc"])) for fault in faults]
            raise PromptFilesError(findings) from error


def field_name(location: Path) -> str:
    """`principles[0].id` for its path."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in location).lstrip(".")


def _finding(fault: Any, shown: str, line: int) -> Finding:
    message = fault["msg"].removeprefix("Value error, ")
    if not isinstance(fault["input"], dict | list):
        message += f" (found {_short(fault['input'])})"
    mend = _MENDS.get(fault["type"], "change the value")
    return Finding(shown, line, field_name(fault["loc"]), message, mend)


def _name(key: str) -> str:
    """A key as findings show it, whatever it is."""
    return key if key.isprintable() and len(key) <= _MAX_PLAIN_CHARS else _short(key)


def read_yaml(text: str, shown: str) -> Document:
    """The document in `text`; `shown` names it in findings. Raises PromptFilesError."""
    return Document(shown, _read_yaml(text, shown), lambda: _yaml_lines(text))


def read_json_lines(content: bytes, shown: str, make: Callable[[Any], Item]) -> tuple[list[Item], Document]:
    """What `make` makes of each line that is not blank, and the document without data, which knows their places.

    Such files may be large, so no more than one line is held as data. `make` may raise pydantic's ValidationError.
    Raises PromptFilesError.
    """
    items: list[Item] = []
    numbers = array("L")
    findings: list[Finding] = []
    for number, line in enumerate(BytesIO(content.removeprefix(BOM_UTF8)), 1):
        if len(findings) >= _MAX_FINDINGS:
            break
        if not line.strip():
            continue
        try:
            items.append(make(orjson.loads(line)))
            numbers.append(number)
        except ValidationError as error:
            findings.extend(_finding(fault, shown, number) for fault in error.errors(include_url=False))
        except ValueError as error:
            findings.append(Finding(shown, number, "", f"is not JSON: {error}"))
    if findings:
        raise PromptFilesError(findings[:_MAX_FINDINGS])
    return items, Document(shown, None, lambda: {(index,): number for index, number in enumerate(numbers)})


def merge(parent: Document, child: Document, *, line: int) -> Document:
    """`child` over `parent`, as JSON Merge Patch (RFC 7396): mappings are merged, null removes, all else is replaced.

    What comes from the parent is found at `line` of the child.
    """

    def find_lines() -> Lines:
        return {**{path: line for path in parent._lines if path}, **child._lines}

    return Document(child.shown, _merged(parent.data, child.data), find_lines)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(new, dict):
        return new
    kept = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = _merged(kept.get(key), value)
    return kept


def _read_yaml(text: str, shown: str, lines: Lines | None = None) -> Any:
    try:
        return _construct(yaml.parse(text, Loader=_Loader), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        mend = "mend the indentation, or put quotes around text with a colon or another mark in it"
        found = Finding(shown, line, "", f"is not YAML as used here: {error.problem}", mend)
        raise PromptFilesError([found]) from error
    except yaml.YAMLError as error:
        raise PromptFilesError([Finding(shown, 0, "", f"is not YAML: {error}")]) from error


def _yaml_lines(text: str) -> Lines:
    lines: Lines = {(): 1}
    _read_yaml(text, "", lines)
    return lines


@dataclass
class _Level:
    """A mapping or list that is being filled."""

    value: Any
    path: Path
    key: Any = field(default=_MISSING)

    def put(self, value: Any) -> Path:
        """Add `value`; gives its path."""
        if isinstance(self.value, list):
            self.value.append(value)
            return (*self.path, len(self.value) - 1)
        path = (*self.path, self.key)
        self.value[self.key] = value
        self.key = _MISSING
        return path


def _construct(events: Iterator[Any], lines: Lines | None) -> Any:
    documents: list[Any] = []
    levels = [_Level(documents, ())]
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            levels.pop()
        elif isinstance(event, yaml.NodeEvent):
            _construct_node(event, levels, lines)
    if len(documents) > 1:
        raise yaml.MarkedYAMLError(problem="there is more than one document in the file")
    return documents[0] if documents else None


def _construct_node(event: Any, levels: list[_Level], lines: Lines | None) -> None:
    if event.anchor is not None:
        raise _fault(event, "anchors and aliases are not read; write the text out")
    if event.tag not in {None, "!"}:
        raise _fault(event, f"tags such as {event.tag} are not read")
    level = levels[-1]
    if isinstance(level.value, dict) and level.key is _MISSING:
        level.key = _key(event, level.value)
        if lines is not None:
            lines[*level.path[1:], level.key] = event.start_mark.line + 1
        return
    value = _scalar(event) if isinstance(event, yaml.ScalarEvent) else {} if _is_mapping(event) else []
    path = level.put(value)
    if lines is not None:
        lines.setdefault(path[1:], event.start_mark.line + 1)
    if not isinstance(event, yaml.ScalarEvent):
        if len(levels) > _MAX_DEPTH:
            raise _fault(event, f"is nested deeper than {_MAX_DEPTH} levels")
        levels.append(_Level(value, path))


def _is_mapping(event: Any) -> bool:
    return isinstance(event, yaml.MappingStartEvent)


def _key(event: Any, mapping: dict[str, Any]) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise _fault(event, "keys must be text")
    if event.value in mapping:
        raise _fault(event, f"the key {_short(event.value)} is given twice")
    return str(event.value)


def _scalar(event: Any) -> Any:
    if not event.implicit[0] or len(event.value) > _MAX_PLAIN_CHARS:
        return event.value
    try:
        return _plain(event.value)
    except (ValueError, ArithmeticError, yaml.YAMLError) as error:
        raise _fault(event, f"{_short(event.value)} cannot be read: {error}") from error


@lru_cache(maxsize=16384)
def _plain(value: str) -> Any:
    """An unquoted scalar as number, truth value, null or text, by YAML 1.1's rules."""
    tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]  # stubs
    return yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, value))


def _fault(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}..."
