"""A base model on the real engine: with profile `base` it answers as an assistant and stops; with `off` it does not."""

import re

import httpx
import pytest

from server.core.types import Body
from server.rendering.tokens import ModelTokenizer
from tests.live.conftest import GEMMA

QUESTION = "What should I do if I found a lost wallet?"


def ask(url: str, profile: str) -> list[Body]:
    """Eight sampled answers: one greedy answer of so small a model can turn on the rounding of a processor."""
    messages = [{"role": "user", "content": QUESTION}]
    sampling = {"temperature": 0.7, "n": 8, "seed": 1, "max_tokens": 300}
    body = {"model": f"{GEMMA}:{profile}", "messages": messages, **sampling}
    answer: Body = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=180).json()
    choices: list[Body] = answer["choices"]
    return choices


def num_ended(choices: list[Body]) -> int:
    return sum(choice["finish_reason"] == "stop" for choice in choices)


def test_aligned_it_answers_and_ends_by_itself(gemma_url: str) -> None:
    choices = ask(gemma_url, "base")
    texts = [choice["message"]["content"] for choice in choices]
    assert num_ended(choices) >= 5
    assert all(text.strip() for text in texts)
    assert sum(re.search(r"wallet|owner|police|find|lost|money|bank", text) is not None for text in texts) >= 3
    assert not any(re.search(r"~~~~|^# (Query|Answer)", text, re.MULTILINE) for text in texts)


def test_unaligned_it_runs_on(gemma_url: str) -> None:
    assert num_ended(ask(gemma_url, "off")) <= 3


def test_a_stream_ends_the_same_way(gemma_url: str) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": f"{GEMMA}:base", "messages": messages, "n": 8, "seed": 1, "max_tokens": 300, "stream": True}
    text = httpx.post(f"{gemma_url}/v1/chat/completions", json=body, timeout=180).text
    assert text.count('"finish_reason":"stop"') >= 5
    assert "~~~~" not in text
    assert text.endswith("data: [DONE]\n\n")


def test_base_is_what_it_is_served_with_when_nothing_is_asked(gemma_url: str) -> None:
    assert httpx.get(f"{gemma_url}/v1/alignment/profiles").json()["default"] == "base"


@pytest.mark.parametrize("profile", ["base", "off"])
def test_every_prompt_begins_with_bos(gemma_url: str, gemma_tokenizer: ModelTokenizer, profile: str) -> None:
    body = {"model": f"{GEMMA}:{profile}", "messages": [{"role": "user", "content": QUESTION}]}
    sent = httpx.post(f"{gemma_url}/v1/alignment/render", json=body, timeout=60).json()["body"]
    tokens = httpx.post(f"{gemma_url}/tokenize", json={**sent, "model": GEMMA}, timeout=60).json()["tokens"]
    (bos,) = gemma_tokenizer.encode("<bos>")
    assert tokens[0] == bos
    assert tokens.count(bos) == 1
