"""What turns text into vectors."""

from collections.abc import Sequence
from typing import Protocol

from server.core.types import Vectors


class Embedder(Protocol):
    """Texts to unit vectors, deterministically: the same text gives the same vector whatever it is embedded with."""

    @property
    def name(self) -> str:
        """The model's name, as traces show it and vectors are kept by: another one wherever vectors differ."""
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimension], rows of unit length. Text without any token may give a row of zeros."""
        ...
