"""Numbers computed from texts at some cost, and found on disk where they were computed before."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.retrieval.cache import DiskCache, batches, key_of

Numbers = NDArray[Any]
Report = Callable[[str], None]

_BATCH = 1024
_REPORT_EVERY_S = 5.0


@dataclass(frozen=True)
class Remembered:
    """Rows of `width` numbers of the type `dtype`, by text. `kind` says what they are, and names what computes them."""

    kind: str
    compute: Callable[[Sequence[str]], Numbers]
    """[texts, width] for texts, each row by its text alone."""
    dtype: type[np.generic]
    width: int
    cache: DiskCache | None = None
    report: Report = lambda _: None
    """Is told how far a long computation is."""

    def of(self, texts: Sequence[str]) -> Iterator[tuple[Sequence[str], Numbers]]:
        """All of `texts`, some at a time and in another order, with their rows."""
        missing: list[str] = []
        for part in batches(texts, _BATCH):
            found = self._recall(part)
            if found:
                yield list(found), np.frombuffer(b"".join(found.values()), self.dtype).reshape(-1, self.width)
            missing.extend(text for text in part if text not in found)
        told_s = time.monotonic()
        for number, part in enumerate(batches(missing, _BATCH)):
            if time.monotonic() - told_s > _REPORT_EVERY_S:
                told_s = time.monotonic()
                self.report(f"Computing {self.kind}: {number * _BATCH} of {len(missing)} texts are done ...")
            rows = np.asarray(self.compute(part), self.dtype)
            self._remember(part, rows)
            yield part, rows

    def _recall(self, texts: Sequence[str]) -> dict[str, bytes]:
        if self.cache is None:
            return {}
        keys = {text: key_of(self.kind, text) for text in texts}
        found = self.cache.get(list(keys.values()))
        return {text: found[key] for text, key in keys.items() if key in found and len(found[key]) == self._num_bytes}

    def _remember(self, texts: Sequence[str], rows: Numbers) -> None:
        if self.cache is not None:
            self.cache.put({key_of(self.kind, text): row.tobytes() for text, row in zip(texts, rows, strict=True)})

    @property
    def _num_bytes(self) -> int:
        return self.width * np.dtype(self.dtype).itemsize
