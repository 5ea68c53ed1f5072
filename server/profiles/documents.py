"""Reads one YAML file against its schema and reports faults with file, line and field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from server.core.errors import Finding, PromptFilesError

FileModel = TypeVar("FileModel", bound=BaseModel)
Lines = dict[tuple[str | int, ...], int]

_MAX_BYTES = 16 * 1024 * 1024


def load_document(path: Path, shown: str, model: type[FileModel]) -> tuple[FileModel, Lines]:
    """Read `path` and check it against `model`; `shown` names it in findings. Raises PromptFilesError.

    Also gives the line of every key, by its path from the root, for findings that only other files bring to light.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PromptFilesError([Finding(shown, 0, "", f"is larger than {_MAX_BYTES} bytes")])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFilesError([Finding(shown, 0, "", f"cannot be read as UTF-8 text: {error}")]) from error
    return parse_document(text, shown, model)


def parse_document(text: str, shown: str, model: type[FileModel]) -> tuple[FileModel, Lines]:
    """`load_document` for text already in memory."""
    data, lines = _parse_yaml(text, shown)
    try:
        return model.model_validate(data), lines
    except ValidationError as error:
        raise PromptFilesError([_finding(shown, lines, fault) for fault in error.errors()]) from error


def line_of(lines: Lines, *path: str | int) -> int:
    """The line of the nearest enclosing key that is in the file, from 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _parse_yaml(text: str, shown: str) -> tuple[Any, Lines]:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines = dict(_walk(node, ())) if node else {}
        return loader.construct_document(node) if node else None, lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise PromptFilesError([Finding(shown, line, "", f"is not YAML: {error.problem}")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PromptFilesError([Finding(shown, 0, "", f"is not YAML: {error}")]) from error


def _walk(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "keys must be text", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
            yield from _walk(value, (*path, key.value))
            yield (*path, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk(value, (*path, index))


def _finding(shown: str, lines: Lines, fault: Any) -> Finding:
    location = tuple(fault["loc"])
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    message = fault["msg"].removeprefix("Value error, ")
    if not isinstance(fault["input"], dict | list):
        message += f" (found {fault['input']!r})"
    return Finding(shown, line_of(lines, *location), field, message)
