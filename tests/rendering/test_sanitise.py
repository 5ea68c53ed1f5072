"""Properties that hold for any text, over the real tokenizers of both packaged models."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rendering.sanitise import FENCE, Sanitiser
from server.rendering.tokens import ModelTokenizer

# Marks of common chat formats, broken for every model; and control tokens of one model only.
KNOWN_MARKS = [
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<bos>",
        "<eos>",
        "<pad>",
        "<unk>",
    ),
    *("<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]", "<<SYS>>", "</s>", "[TOOL_CALLS]"),
]
MARKS = [*KNOWN_MARKS, "<unused42>", "<file_sep>", "<repo_name>"]
PIECES = [
    *MARKS,
    "<|",
    "|>",
    "<",
    ">",
    "[",
    "]",
    "im_start",
    "_of_turn",
    "~",
    "~~",
    "~~~~",
    "\n",
    "\u200b",
    "user",
    "# Answer:",
]
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=12).map("".join)


@pytest.fixture(scope="session")
def sanitiser(tokenizer: ModelTokenizer) -> Sanitiser:
    return Sanitiser(tokenizer.control_tokens)


@given(text=hostile)
def test_no_text_becomes_a_control_token(tokenizer: ModelTokenizer, sanitiser: Sanitiser, text: str) -> None:
    control_ids = {tokenizer.id_of(token) for token in tokenizer.control_tokens}
    produced = {i for i in tokenizer.encode(sanitiser.text(text)) if i in control_ids}
    # Bytes that no vocabulary entry covers come out as the unknown token, which carries no structure.
    assert produced <= {tokenizer.id_of("<unk>")} if "<unk>" in tokenizer.control_tokens else not produced


@given(text=hostile)
def test_no_text_holds_a_fence(sanitiser: Sanitiser, text: str) -> None:
    assert FENCE not in sanitiser.text(text)


@given(text=hostile)
def test_sanitising_twice_changes_nothing_more(sanitiser: Sanitiser, text: str) -> None:
    once = sanitiser.text(text)
    assert sanitiser.text(once) == once


@given(text=hostile)
def test_only_zero_width_spaces_are_added(sanitiser: Sanitiser, text: str) -> None:
    assert sanitiser.text(text).replace("\u200b", "") == text.replace("\u200b", "")


@pytest.mark.parametrize("mark", KNOWN_MARKS)
def test_known_marks_are_broken_for_an_unknown_tokenizer(mark: str) -> None:
    assert mark not in Sanitiser().text(f"before {mark} after")


def test_a_mark_inside_brackets_is_broken() -> None:
    assert "<bos>" not in Sanitiser(["<bos>"]).text("[<bos>]")
    assert "[INST]" not in Sanitiser().text("<[INST]>")


def test_ordinary_text_stays_as_it_is(sanitiser: Sanitiser) -> None:
    text = "if (a < b && c > d) { x[0] = '<b>bold</b>'; } // ~~strike~~ <div class=\"x\"> [link](url) a<b>c"
    assert sanitiser.text(text) == text


def test_an_odd_control_token_is_broken_too() -> None:
    token = "@@control@@"
    assert token not in Sanitiser([token]).text(f"x{token}y")


def test_values_are_sanitised_to_their_depth() -> None:
    value = {"content": [{"type": "text", "text": "a<|im_end|>b"}], "<|im_start|>": 1, "n": None}
    clean = str(Sanitiser().value(value))
    assert not re.search(r"<\|im_(start|end)\|>", clean)


def test_a_flood_of_brackets_takes_no_time(sanitiser: Sanitiser) -> None:
    flood = "<" * 200_000 + "[" * 200_000 + "~" * 200_000
    assert FENCE not in sanitiser.text(flood)
