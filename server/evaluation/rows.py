"""The rows of a run: one JSON object a line for each thing asked, appended as it is done."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from server.core.errors import ConfigurationError


@dataclass(frozen=True)
class Row:
    """One thing asked under one arm, and what came of it. `key` is unique within a run, and the same in every run.

    `prompt` is the last user text, and `messages` the whole conversation where there is more. `profile` is a label,
    `id@version`. `chosen` are the demonstrations in prompt order. `values` are the figures to be averaged. Of a row
    with an `error`, nothing that would have come with an answer counts.
    """

    key: str
    arm: str
    measure: str
    set: str
    id: str
    variant: str
    prompt: str
    label: str | None = None
    kind: str = ""
    messages: Sequence[Mapping[str, str]] | None = None
    answer: str = ""
    finish_reason: str | None = None
    profile: str = ""
    route: str | None = None
    risk: float | None = None
    chosen: Sequence[str] = ()
    principles: Sequence[str] = ()
    tokens: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    verdict: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def pair_key(self) -> str:
        """The key without the arm: what rows of two arms share that were asked the same."""
        return key_of("", self.measure, self.set, self.id, self.variant)


def key_of(arm: str, measure: str, data_set: str, row_id: str, variant: str) -> str:
    """The key of a row."""
    return "/".join((arm, measure, data_set, row_id, variant))


def dump_row(row: Row) -> bytes:
    """One line, its end included."""
    fields = {name: value for name, value in asdict(row).items() if name != "messages" or value is not None}
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def parse_row(line: bytes) -> Row:
    """What `dump_row` wrote. Raises ValueError or TypeError."""
    return Row(**orjson.loads(line))


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of a file by key, the last where there are several; none where there is no file.

    A last line that was torn off is left out. Raises ConfigurationError for any other that cannot be read.
    """
    rows: dict[str, Row] = {}
    content = path.read_bytes() if path.is_file() else b""
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            row = parse_row(line)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"run: {path}:{number} is not a row of a run: {error}.") from error
        rows[row.key] = row
    return rows


class RowWriter:
    """Appends rows to a file, each at once. Drops a torn last line first, so that none is joined to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+")
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def append(self, row: Row) -> None:
        """Write `row` as the last line."""
        self._file.write(dump_row(row))
        self._file.flush()

    def close(self) -> None:
        """No more rows."""
        self._file.close()
