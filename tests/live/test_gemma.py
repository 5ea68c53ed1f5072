"""A base model on the real engine: with profile `base` it answers as an assistant and stops; with `off` it does not."""

import re

import httpx
import pytest

from server.core.types import Body
from server.rendering.tokens import ModelTokenizer
from tests.live.conftest import GEMMA

QUESTION = "What should I do if I found a lost wallet?"


def ask(url: str, profile: str, **fields: object) -> Body:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": f"{GEMMA}:{profile}", "messages": messages, "temperature": 0, "max_tokens": 300, **fields}
    answer: Body = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=180).json()
    return answer


def test_aligned_it_answers_and_ends_by_itself(gemma_url: str) -> None:
    choice = ask(gemma_url, "base")["choices"][0]
    text = choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    assert len(text.split()) >= 8
    assert re.search(r"wallet|owner|police|find|return", text)
    assert not re.search(r"~~~~|^# (Query|Answer)", text, re.MULTILINE)


def test_unaligned_it_runs_on(gemma_url: str) -> None:
    assert ask(gemma_url, "off")["choices"][0]["finish_reason"] == "length"


def test_a_stream_ends_the_same_way(gemma_url: str) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": f"{GEMMA}:base", "messages": messages, "temperature": 0, "max_tokens": 300, "stream": True}
    text = httpx.post(f"{gemma_url}/v1/chat/completions", json=body, timeout=180).text
    assert '"finish_reason":"stop"' in text
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
