"""Vectors of the shipped messages as a file, so that a first start need not compute them: minutes on two processors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.core.types import Vectors
from server.retrieval.base import Embedder
from server.retrieval.cache import key_of

SHIPPED = Path(__file__).with_name("mpnet-vectors.npz")
"""Vectors by mpnet of all that decides the risk in `prompts/`; `tests/bench/write_vectors.py` writes them."""

_LARGEST = 127


class KnownEmbedder:
    """`embedder`, but texts that `path` has vectors for are looked up, which agree to a cosine of 0.999 or more.

    The file, as `write_known` makes it, has two arrays: `keys` uint8 [texts, 16], hashes of the embedder's name and a
    text, and `vectors` int8 [texts, dimension], directions only. Of another embedder, nothing in it is found.
    """

    def __init__(self, embedder: Embedder, path: Path) -> None:
        self.name = embedder.name
        self.dimension = embedder.dimension
        self._embedder = embedder
        with np.load(path) as file:
            self._vectors: NDArray[np.int8] = file["vectors"]
            self._rows = {key.tobytes(): row for row, key in enumerate(file["keys"])}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimension], rows of unit length."""
        rows = [self._rows.get(key_of(self.name, text), -1) for text in texts]
        unknown = [index for index, row in enumerate(rows) if row < 0]
        found = self._vectors[rows].astype(np.float32)
        if unknown:
            found[unknown] = self._embedder.embed([texts[index] for index in unknown])
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def write_known(path: Path, embedder: Embedder, texts: Sequence[str]) -> None:
    """Keep the vectors of `texts` in `path`, a byte a number."""
    vectors = embedder.embed(texts)
    scales = _LARGEST / np.abs(vectors).max(axis=1, keepdims=True)
    keys = np.array([list(key_of(embedder.name, text)) for text in texts], np.uint8)
    np.savez_compressed(path, keys=keys, vectors=np.rint(vectors * scales).astype(np.int8))
