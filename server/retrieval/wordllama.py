"""The light embedder: WordLlama's static token vectors, averaged. Its wheel carries them, so it needs no network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from server.core.types import Vectors

_DIMENSION = 256


class WordLlamaEmbedder:
    """Unit means of static token vectors (WordLlama, l2_supercat, 256 dimensions)."""

    name = "wordllama-256"
    dimension = _DIMENSION

    def __init__(self) -> None:
        # Imported here, because the package sets up the root logger when it is imported.
        import wordllama

        # The package looks for its tokenizer in a folder it does not ship, unless its own folder is given as cache.
        folder = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(dim=_DIMENSION, cache_dir=folder, disable_download=True)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), 256], rows of unit length; a text without tokens gives zeros."""
        if not texts:
            return np.empty((0, _DIMENSION), np.float32)
        rows = self._model.embed(list(texts), batch_size=1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)
