"""Exact nearest neighbours. Under ten thousand vectors one matrix product beats any index structure."""

import numpy as np
from numpy.typing import NDArray

from server.core.types import Vectors


class ExactIndex:
    """Cosine similarity against fixed unit vectors, float32 [n, dimension]."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)

    def similarities(self, query: Vectors) -> NDArray[np.float32]:
        """float32 [n] for a unit query [dimension]."""
        return np.asarray(self.vectors @ query, np.float32)
