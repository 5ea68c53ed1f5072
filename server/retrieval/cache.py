"""Keeps on disk what is computed from texts, such as vectors, so that it is computed once.

It never stands in the way: where the file cannot be read or written, everything is computed as if there were none.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from zlib import crc32

Item = TypeVar("Item")

_logger = logging.getLogger(__name__)

# Has the number of its form in its name: another form makes another file.
_FILE = "computed-1.sqlite3"
_TABLE = "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)"
_FORGET = "DELETE FROM entries WHERE id <= (SELECT MAX(id) FROM entries) - ?"
_MAX_ENTRIES = 1_000_000
_KEYS_PER_QUESTION = 500
_SUM_BYTES = 4
_WAIT_S = 5.0


def key_of(kind: str, text: str) -> bytes:
    """Where to find what `kind`, which names what is computed and by what, makes of `text`."""
    return hashlib.blake2b(f"{kind}\0{text}".encode(), digest_size=16).digest()


class DiskCache:
    """Bytes by key in one SQLite file of a folder, which any number of processes may use at once.

    It holds the `max_entries` put there last; a million vectors of 384 numbers take 1.7 GB. No connection stays open.
    """

    def __init__(self, folder: Path, *, max_entries: int = _MAX_ENTRIES) -> None:
        self._path = folder / _FILE
        self._max_entries = max_entries
        self._reads = self._writes = True

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What there is of `keys`."""
        found: dict[bytes, bytes] = {}
        if not self._reads:
            return found
        try:
            if self._path.exists():
                with self._open() as connection:
                    for part in batches(keys, _KEYS_PER_QUESTION):
                        marks = ",".join("?" * len(part))
                        question = f"SELECT key, value FROM entries WHERE key IN ({marks})"  # noqa: S608  # marks only
                        found.update(connection.execute(question, part))
        except (sqlite3.Error, OSError) as error:
            self._reads = self._writes = False
            self._give_up(error)
        return {
            key: value[_SUM_BYTES:] for key, value in found.items() if value[:_SUM_BYTES] == _sum(value[_SUM_BYTES:])
        }

    def put(self, items: Mapping[bytes, bytes]) -> None:
        """Keep `items`; the oldest entries go where they become too many."""
        if not self._writes:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as connection, connection:
                summed = ((key, _sum(value) + value) for key, value in items.items())
                connection.executemany("INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", summed)
                connection.execute(_FORGET, (self._max_entries,))
        except (sqlite3.Error, OSError) as error:
            self._writes = False
            self._give_up(error)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_WAIT_S)) as connection:
            connection.execute(_TABLE)
            yield connection

    def _give_up(self, error: Exception) -> None:
        _logger.warning("What is computed of the prompts is not kept in %s: %s", self._path, error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):  # it is damaged; the next process begins a new one
                self._path.unlink()


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """`items` in order, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _sum(value: bytes) -> bytes:
    """SQLite notices a damaged file, but not damage within a value."""
    return crc32(value).to_bytes(_SUM_BYTES, "big")
