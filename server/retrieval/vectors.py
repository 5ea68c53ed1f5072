"""The vectors of all texts that retrieval compares with, each once, for all profiles and versions of the prompts."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from server.core.types import Vectors
from server.retrieval.remembered import Remembered

Rows = NDArray[np.int32]
"""Where vectors lie in a VectorStore."""


class VectorStore:
    """Vectors by row. Who holds rows reads them from any thread, while one thread adds and forgets others.

    Forgotten rows are used again, so that it takes the memory of the most that were needed at a time.
    """

    def __init__(self, embedded: Remembered) -> None:
        self.vectors: Vectors = np.empty((0, embedded.width), np.float32)
        """float32 [capacity, dimension]."""
        self._embedded = embedded
        self._rows: dict[str, int] = {}
        self._free: list[int] = []

    def add(self, texts: Iterable[str]) -> None:
        """Embed those of `texts` that are new."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        self._grow(len(self._rows) + len(new))
        for part, vectors in self._embedded.of(new):
            rows = [self._free.pop() for _ in part]
            self.vectors[rows] = vectors
            self._rows.update(zip(part, rows, strict=True))

    def rows(self, texts: Sequence[str]) -> Rows:
        """The row of each of `texts`, which were added before."""
        return np.fromiter(map(self._rows.__getitem__, texts), np.int32, len(texts))

    def keep(self, used: Iterable[Rows]) -> None:
        """Forget all rows but `used`."""
        is_used = np.zeros(len(self.vectors), np.bool_)
        for rows in used:
            is_used[rows] = True
        for text in [text for text, row in self._rows.items() if not is_used[row]]:
            self._free.append(self._rows.pop(text))

    def similarities(self, rows: Rows, query: Vectors) -> NDArray[np.float32]:
        """float32 [rows], the cosine of each to the unit vector `query` [dimension].

        Row by row, so that it depends on nothing else that is asked for; and on one thread, since the threads of a
        matrix product wait for each other where the processor is busy: a hundredth of queries took ten times as long.
        """
        return np.asarray(np.vecdot(self.vectors.take(rows, axis=0), query), np.float32)

    def _grow(self, num_rows: int) -> None:
        """Room for `num_rows`. Of what is allocated beyond them, the system gives no memory before it is used."""
        capacity = len(self.vectors)
        if num_rows > capacity:
            grown = np.empty((2 * num_rows, self.vectors.shape[1]), np.float32)
            grown[:capacity] = self.vectors
            self._free.extend(reversed(range(capacity, len(grown))))
            self.vectors = grown
