from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.rendering.tokens import EstimatingTokenizer, ModelTokenizer, load_tokenizer


def test_counts_are_the_models(smollm2_tokenizer: ModelTokenizer) -> None:
    assert smollm2_tokenizer.count("Hello world") == 2
    assert "<|im_start|>" in smollm2_tokenizer.control_tokens


def test_structure_counts_as_control_and_words_do_not(gemma_tokenizer: ModelTokenizer) -> None:
    assert {"<start_of_turn>", "<start_of_image>", "<bos>", "<unused7>"} <= gemma_tokenizer.control_tokens
    assert not {"<table>", "</h2>", "\n\n"} & gemma_tokenizer.control_tokens


def test_an_estimate_rounds_up() -> None:
    assert [EstimatingTokenizer().count(text) for text in ("", "a", "a" * 7, "é" * 7)] == [0, 1, 2, 4]


def test_a_named_model_is_fetched(tmp_path: Path, smollm2_tokenizer: ModelTokenizer) -> None:
    def refuse(name: str) -> str:
        raise OSError(f"no network for {name}")

    with pytest.raises(ConfigurationError, match="someone/model.*no network"):
        load_tokenizer("someone/model", "someone/model", fetch=refuse)
    with pytest.raises(ConfigurationError, match="empty"):
        load_tokenizer(str(tmp_path), "empty", fetch=refuse)
