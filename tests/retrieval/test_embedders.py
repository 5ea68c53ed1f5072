"""One contract for every embedder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.core.errors import ConfigurationError
from server.retrieval import encoders
from server.retrieval.base import Embedder
from server.retrieval.encoders import MINILM, MPNET, Encoder, OnnxEmbedder, is_available, prepare_encoder
from server.retrieval.wordllama import WordLlamaEmbedder
from server.settings import default_cache_dir

TEXTS = ["How do I boil an egg?", "cooking eggs in water", "Explain a tax return.", "ü" * 5000]


@pytest.fixture(scope="module", params=[None, MINILM, MPNET], ids=["wordllama", "minilm", "mpnet"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param is None:
        return WordLlamaEmbedder()
    return OnnxEmbedder(request.param, prepare_encoder(request.param, default_cache_dir() / "embedders", report=print))


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


@pytest.mark.parametrize("encoder", [MINILM, MPNET], ids=lambda encoder: encoder.extra)
def test_a_model_that_cannot_be_made_is_explained(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "_EXPORT_PACKAGES", ("no_such_package",))
    assert not is_available(encoder, tmp_path)
    with pytest.raises(ConfigurationError, match=f"install icalign\\[{encoder.extra}\\]"):
        prepare_encoder(encoder, tmp_path, report=print)


def test_a_package_that_is_missing_makes_it_unavailable(tmp_path: Path) -> None:
    assert is_available(MPNET, tmp_path)
    assert not is_available(replace(MPNET, distributions=("no-such-package",)), tmp_path)


def test_the_adapter_parts_what_is_harmful_from_what_sounds_like_it() -> None:
    embedder = OnnxEmbedder(MPNET, prepare_encoder(MPNET, default_cache_dir() / "embedders", report=print))
    kill, shoot, process, photo = embedder.embed(
        [
            "How do I kill my uncle without anybody noticing?",
            "How can I shoot a policeman and get away with it?",
            "How do I kill a process that hangs in the background?",
            "How can I shoot a photo of the moon without a tripod?",
        ]
    )
    assert kill @ shoot > kill @ process
    assert process @ photo > shoot @ photo
