"""Two embedders in one: what tells harmful messages from harmless ones has lost sight of what they are about."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.core.types import Vectors
from server.retrieval.base import Embedder


@dataclass(frozen=True)
class JudgingEmbedder:
    """Compares texts as `topics` does, and messages for their risk by `judge`."""

    topics: Embedder
    judge: Embedder

    @property
    def name(self) -> str:
        """Both, as traces show them."""
        return f"{self.topics.name}, risk by {self.judge.name}"

    @property
    def dimension(self) -> int:
        """That of `topics`."""
        return self.topics.dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As `topics` does."""
        return self.topics.embed(texts)


def split(embedder: Embedder) -> tuple[Embedder, Embedder]:
    """What compares texts, and what compares messages for their risk: the same one, unless there are two."""
    return (embedder.topics, embedder.judge) if isinstance(embedder, JudgingEmbedder) else (embedder, embedder)
