from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from server.core.types import Vectors
from server.profiles.store import load_profiles
from server.retrieval.cache import key_of
from server.retrieval.encoders import MPNET, OnnxEmbedder, prepare_encoder
from server.retrieval.known import SHIPPED, KnownEmbedder, write_known
from server.settings import default_cache_dir
from tests.conftest import PROMPTS

KNOWN = ["one", "two", "three"]


class Recording:
    """Vectors of the directions that random numbers have, and a record of what was asked."""

    dimension = 16

    def __init__(self, name: str = "recording") -> None:
        self.name = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.extend(texts)
        rows = [np.random.default_rng(list(text.encode())).standard_normal(self.dimension) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, self.dimension)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "known.npz"
    write_known(path, Recording(), KNOWN)
    return path


def test_known_texts_are_looked_up_and_others_embedded(path: Path) -> None:
    inner = Recording()
    texts = ["three", "four", "one"]
    vectors = KnownEmbedder(inner, path).embed(texts)
    assert inner.asked == ["four"]
    assert (np.vecdot(vectors, Recording().embed(texts)) > 0.999).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_nothing_is_known_of_another_embedder(path: Path) -> None:
    inner = Recording("another")
    np.testing.assert_allclose(KnownEmbedder(inner, path).embed(KNOWN), Recording().embed(KNOWN), atol=1e-6)
    assert inner.asked == KNOWN


def test_no_texts_give_no_rows(path: Path) -> None:
    assert KnownEmbedder(Recording(), path).embed([]).shape == (0, Recording.dimension)


def test_the_shipped_vectors_are_those_of_the_shipped_messages() -> None:
    texts = sorted({item.user for item in load_profiles(PROMPTS)["default"].risk_messages})
    with np.load(SHIPPED) as file:
        keys = {key.tobytes() for key in file["keys"]}
    known = [text for text in texts if key_of(MPNET.name, text) in keys]
    # An edit needs no new file, but after many the first start is slow: python tests/bench/write_vectors.py
    assert len(known) > 0.9 * len(texts)
    some = known[:: len(known) // 20]
    computed = OnnxEmbedder(MPNET, prepare_encoder(MPNET, default_cache_dir() / "embedders", report=print))
    shipped = KnownEmbedder(Unable(), SHIPPED).embed(some)
    assert (np.vecdot(shipped, computed.embed(some)) > 0.999).all()


class Unable:
    """The shipped embedder, where there is nothing to compute with."""

    name, dimension = MPNET.name, MPNET.dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        raise AssertionError(f"{len(texts)} texts are not known")
