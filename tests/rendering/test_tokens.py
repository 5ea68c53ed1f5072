from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.rendering.tokens import EstimatingTokenizer, ModelTokenizer, load_tokenizer


def test_counts_are_the_models(smollm2_tokenizer: ModelTokenizer) -> None:
    assert smollm2_tokenizer.count("Hello world") == 2
    assert "<|im_start|>" in smollm2_tokenizer.control_tokens


def test_the_base_models_text_begins_with_bos(gemma_tokenizer: ModelTokenizer) -> None:
    bos = gemma_tokenizer.id_of("<bos>")
    assert gemma_tokenizer.encode("Hello", add_special_tokens=True)[0] == bos
    assert bos not in gemma_tokenizer.encode("Hello")


def test_an_estimate_rounds_up() -> None:
    assert [EstimatingTokenizer().count(text) for text in ("", "a", "a" * 7, "é" * 7)] == [0, 1, 2, 4]


def test_a_named_model_is_fetched(tmp_path: Path, smollm2_tokenizer: ModelTokenizer) -> None:
    def refuse(name: str) -> str:
        raise OSError(f"no network for {name}")

    with pytest.raises(ConfigurationError, match="someone/model.*no network"):
        load_tokenizer("someone/model", "someone/model", fetch=refuse)
    with pytest.raises(ConfigurationError, match="empty"):
        load_tokenizer(str(tmp_path), "empty", fetch=refuse)
