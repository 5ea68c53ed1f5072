"""A run's folder: run.json, which says what was asked of whom, and rows.jsonl, what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from server.core.errors import ConfigurationError
from server.evaluation.judges.base import Card
from server.evaluation.measures.base import Figure
from server.evaluation.rows import Row, dump_row, read_rows

HEAD = "run.json"
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class RunArm:
    """An arm as it was asked: the label (`id@version`) of its profile, and what it changes of another."""

    id: str
    title: str
    profile: str
    patch: Mapping[str, Any] | None = None
    embedder: str | None = None


@dataclass(frozen=True)
class RunMeasure:
    """A measure with its figures, and the number of tasks of each set, by the set's name."""

    name: str
    what: str
    figures: Sequence[Figure]
    sets: Mapping[str, int]


@dataclass(frozen=True)
class Head:
    """What a run asks of whom. Two runs of one head ask the same of the same, so that one can go on with the other.

    `settings` are those that decide answers; `embedder` is what the server compares texts with.
    """

    icalign: str
    model: str
    embedder: str
    settings: Mapping[str, Any]
    arms: Sequence[RunArm]
    measures: Sequence[RunMeasure]
    judges: Sequence[Card]


@dataclass(frozen=True)
class Run:
    """A run as its folder has it; `rows` by key, failed ones included."""

    folder: Path
    head: Head
    rows: Mapping[str, Row]


def load_run(folder: Path) -> Run:
    """Raises ConfigurationError where `folder` holds no run."""
    return Run(folder, _load_head(folder / HEAD), read_rows(folder / ROWS))


def open_run(folder: Path, head: Head) -> Run:
    """The run of `head` in `folder`: begun where the folder has none, else the one to go on with.

    Raises ConfigurationError where the folder has a run of another head.
    """
    path = folder / HEAD
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_dump_head(head))
    found = _load_head(path)
    wanted = _parse_head(_dump_head(head))
    if found != wanted:
        raise ConfigurationError(
            f"out: {folder} has a run of something else: {'; '.join(_differences(found, wanted))}. "
            "Give another folder, or ask for the same again to go on."
        )
    return Run(folder, found, read_rows(folder / ROWS))


def replace_run(folder: Path, head: Head, rows: Iterable[Row]) -> Run:
    """The run of `head` with `rows` in `folder`, in place of whatever run the folder has."""
    for name in (HEAD, ROWS):
        (folder / name).unlink(missing_ok=True)
    open_run(folder, head)
    (folder / ROWS).write_bytes(b"".join(map(dump_row, rows)))
    return load_run(folder)


def _load_head(path: Path) -> Head:
    try:
        return _parse_head(path.read_bytes())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"run: {path} is not the head of a run: {error}.") from error


def _dump_head(head: Head) -> bytes:
    return orjson.dumps(asdict(head), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _parse_head(content: bytes) -> Head:
    fields = orjson.loads(content)
    measures = [{**item, "figures": [Figure(**figure) for figure in item["figures"]]} for item in fields["measures"]]
    return Head(
        **{
            **fields,
            "arms": [RunArm(**arm) for arm in fields["arms"]],
            "measures": [RunMeasure(**measure) for measure in measures],
            "judges": [Card(**card) for card in fields["judges"]],
        }
    )


def _differences(found: Head, wanted: Head) -> list[str]:
    """In words, what `wanted` has otherwise than `found`."""
    names = [name for name, before in vars(found).items() if before != getattr(wanted, name)]
    before, after = _facts(found), _facts(wanted)
    return [f"{name} were {_short(before[name])} and are now {_short(after[name])}" for name in names]


def _facts(head: Head) -> Mapping[str, Any]:
    return {
        **vars(head),
        "arms": [f"{arm.id} ({arm.profile})" for arm in head.arms],
        "judges": [card.name for card in head.judges],
        "measures": [
            f"{item.name} ({', '.join(f'{name} {size}' for name, size in item.sets.items())})" for item in head.measures
        ],
    }


def _short(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= 300 else f"{shown[:300]}..."
