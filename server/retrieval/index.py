"""The nearest neighbours of a query in a bank: found by the signs of the vectors, ranked by the vectors themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.core.types import Vectors
from server.retrieval.vectors import Rows, VectorStore

NUM_NEAREST = 64
"""So many neighbours of each group are found."""

# So many of a group are compared exactly; a larger one is searched by signs first. tests/bench/bench_bank.py measures
# what that costs and misses.
_NUM_COMPARED = 768
_BLOCK_ROWS = 8192
# Below any cosine.
_FAR = -2.0

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Neighbours:
    """Items of an index by position, ascending, with their similarity (cosine) to the query."""

    positions: Positions
    similarities: NDArray[np.float32]


class NeighbourIndex:
    """Finds the nearest of each group of items. Immutable; safe to share between threads.

    Of a vector the sign of each number is kept beside, a bit each. The number of bits in which two vectors differ tells
    roughly how near they are (Charikar 2002), and is found far sooner.
    """

    def __init__(self, store: VectorStore, rows: Rows, groups: Sequence[str]) -> None:
        """Of items parallel to `rows`, those that share one of `groups` are searched together."""
        self.rows = rows
        self._store = store
        names = np.array(groups, np.str_)
        members = [np.flatnonzero(names == name) for name in dict.fromkeys(groups)]
        self._groups = [(positions, self._signs(positions)) for positions in members]

    def nearest(self, query: Vectors) -> Neighbours:
        """The `NUM_NEAREST` of each group to the unit vector `query` [dimension]; of equals, the earlier."""
        bits = _pack(query)
        found = [self._nearest(positions, signs, query, bits) for positions, signs in self._groups]
        if not found:
            return Neighbours(np.empty(0, np.intp), np.empty(0, np.float32))
        positions = np.concatenate([item.positions for item in found])
        order = np.argsort(positions)
        return Neighbours(positions[order], np.concatenate([item.similarities for item in found])[order])

    def _nearest(
        self, positions: Positions, signs: NDArray[np.uint64] | None, query: Vectors, bits: NDArray[np.uint64]
    ) -> Neighbours:
        if signs is not None:
            positions = positions[_smallest(_num_unlike(signs, bits), _NUM_COMPARED)]
        similarities = self._store.similarities(self.rows[positions], query)
        best = _smallest(-similarities, NUM_NEAREST)
        return Neighbours(positions[best], similarities[best])

    def _signs(self, positions: Positions) -> NDArray[np.uint64] | None:
        """uint64 [words, positions], or None where they are few enough to do without."""
        if len(positions) <= _NUM_COMPARED:
            return None
        blocks = np.split(positions, range(_BLOCK_ROWS, len(positions), _BLOCK_ROWS))
        packed = [_pack(self._store.vectors[self.rows[block]]) for block in blocks]
        return np.ascontiguousarray(np.concatenate(packed).T)


def nearest_others(vectors: Vectors, wanted: Sequence[int]) -> tuple[NDArray[np.float32], Positions]:
    """The similarity and the position of the `NUM_NEAREST` to each of `wanted` among all `vectors` but itself.

    Both are [wanted, NUM_NEAREST], in no order; of fewer vectors all, itself as if it were far away.
    """
    similarities = vectors[list(wanted)] @ vectors.T
    similarities[np.arange(len(wanted)), list(wanted)] = _FAR
    count = min(NUM_NEAREST, len(vectors))
    nearest = [_smallest(-row, count) for row in similarities]
    positions = np.array(nearest, np.intp).reshape(len(wanted), count)
    return np.take_along_axis(similarities, positions, axis=1), positions


def _pack(vectors: Vectors) -> NDArray[np.uint64]:
    """The signs of the last axis, 64 to a word; what is missing to the last word counts as negative."""
    bits = np.packbits(vectors > 0, axis=-1)
    missing = -bits.shape[-1] % 8
    return np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)]).view(np.uint64)


def _num_unlike(signs: NDArray[np.uint64], bits: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The number of bits in which each column of `signs` [words, n] differs from `bits` [words]."""
    count = np.zeros(signs.shape[1], np.uint16)
    for row, word in zip(signs, bits, strict=True):
        count += np.bitwise_count(row ^ word)
    return count


def _smallest(values: NDArray[np.number], count: int) -> Positions:
    """Where the `count` smallest are, ascending; of equals, the earlier."""
    if len(values) <= count:
        return np.arange(len(values))
    limit = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < limit)
    return np.sort(np.concatenate([below, np.flatnonzero(values == limit)[: count - len(below)]]))
