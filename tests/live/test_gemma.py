"""A base model on the real engine: with its own profile it answers as an assistant and stops; with `off` it runs on."""

import re
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from anthropic.types import MessageParam

from server.core.types import Body
from server.rendering.tokens import ModelTokenizer
from tests.live.asking import check_likelihood, check_own_profile
from tests.live.conftest import GEMMA, OPENING, opened

QUESTION = "What should I do if I found a lost wallet?"
NUM_ANSWERS = 12
MAX_TOKENS = 320
"""Room for a long answer that ends; of those that do not, most run on for ever."""
NUM_ALIGNED_TOKENS = 200
"""A prompt with principles and demonstrations is longer than this, the question alone far shorter."""


def ask(url: str, profile: str, max_tokens: int) -> list[Body]:
    """Sampled answers: one greedy answer of so small a model can turn on the rounding of a processor."""
    messages = [{"role": "user", "content": QUESTION}]
    sampling = {"temperature": 0.7, "n": NUM_ANSWERS, "seed": 1, "max_tokens": max_tokens}
    body = {"model": f"{GEMMA}:{profile}", "messages": messages, **sampling}
    answer: Body = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=180).json()
    choices: list[Body] = answer["choices"]
    return choices


def num_ended(choices: list[Body]) -> int:
    return sum(choice["finish_reason"] == "stop" for choice in choices)


def test_aligned_it_answers_and_ends_by_itself(gemma_url: str) -> None:
    choices = ask(gemma_url, GEMMA, MAX_TOKENS)
    texts = [choice["message"]["content"] for choice in choices]
    assert num_ended(choices) >= NUM_ANSWERS // 2
    assert all(text.strip() for text in texts)
    assert sum(re.search(r"wallet|owner|police|find|lost|money|bank", text) is not None for text in texts) >= 3
    assert not any(re.search(r"~~~~|^# (Query|Answer)", text, re.MULTILINE) for text in texts)


def test_unaligned_it_runs_on(gemma_url: str) -> None:
    assert num_ended(ask(gemma_url, "off", MAX_TOKENS // 2)) <= NUM_ANSWERS // 3


def test_a_stream_ends_the_same_way(gemma_url: str) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    body = {
        "model": f"{GEMMA}:{GEMMA}",
        "messages": messages,
        "n": NUM_ANSWERS,
        "seed": 1,
        "max_tokens": MAX_TOKENS,
        "stream": True,
    }
    text = httpx.post(f"{gemma_url}/v1/chat/completions", json=body, timeout=180).text
    assert text.count('"finish_reason":"stop"') >= NUM_ANSWERS // 2
    assert "~~~~" not in text
    assert text.endswith("data: [DONE]\n\n")


def check_answer(text: str) -> None:
    assert text.strip()
    assert "~~~~" not in text
    assert "# Query" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_it_goes_on_with_an_opening(gemma_url: str, tmp_path: Path, stream: bool) -> None:
    with (
        opened(gemma_url, tmp_path / "prompts") as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=180) as client,
    ):
        asked = {"model": f"{GEMMA}:off:base", "messages": [{"role": "user", "content": QUESTION}], "n": 2}
        answer = client.chat.completions.create(**asked, max_tokens=30, seed=1, stream=stream)  # type: ignore[call-overload]
        texts = ["", ""]
        for chunk in answer if stream else [answer]:
            for choice in chunk.choices:
                said = choice.delta if stream else choice.message
                texts[choice.index] += said.content or ""
    for text in texts:
        check_answer(text)
        assert text.startswith(OPENING)
        assert len(text) > len(OPENING)


def test_openai_gets_a_response(gemma_url: str) -> None:
    with openai.OpenAI(base_url=f"{gemma_url}/v1", api_key="none", max_retries=0, timeout=180) as client:
        whole = client.responses.create(model=GEMMA, input=QUESTION, max_output_tokens=200)
        with client.responses.stream(model=GEMMA, input=QUESTION, max_output_tokens=20) as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            final = stream.get_final_response()
    assert len(deltas) > 1
    assert final.output_text == "".join(deltas)
    for response in (whole, final):
        check_answer(response.output_text)
        assert response.status in {"completed", "incomplete"}
        assert response.usage is not None
        assert response.usage.input_tokens > NUM_ALIGNED_TOKENS


def test_anthropic_gets_a_message(gemma_url: str) -> None:
    asked: MessageParam = {"role": "user", "content": QUESTION}
    with anthropic.Anthropic(base_url=gemma_url, api_key="none", max_retries=0, timeout=180) as client:
        whole = client.messages.create(model=GEMMA, max_tokens=200, messages=[asked])
        with client.messages.stream(model=GEMMA, max_tokens=20, messages=[asked]) as stream:
            texts = list(stream.text_stream)
            final = stream.get_final_message()
    assert len(texts) > 1
    for message, text in ((whole, None), (final, "".join(texts))):
        (block,) = message.content
        assert block.type == "text"
        assert text in {None, block.text}
        check_answer(block.text)
        assert message.stop_reason in {"end_turn", "max_tokens"}
        usage = message.usage
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) > NUM_ALIGNED_TOKENS


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_own_stop_is_told(gemma_url: str, stream: bool) -> None:
    """The schema leaves but one answer, so that the stop string comes for sure."""
    form = {"type": "json_schema", "schema": {"const": "A stop."}}
    body = {"model": GEMMA, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 40, "stream": stream}
    asked = {**body, "stop_sequences": ["stop"], "output_config": {"format": form}}
    text = httpx.post(f"{gemma_url}/v1/messages", json=asked, timeout=180).text
    assert '"stop_reason":"stop_sequence","stop_sequence":"stop"' in text


def test_its_own_profile_refuses_harm_and_answers_what_sounds_like_it(gemma_url: str) -> None:
    check_own_profile(gemma_url, GEMMA)


@pytest.mark.anyio
async def test_likelihood_is_what_the_answer_itself_tells(gemma_url: str) -> None:
    await check_likelihood(gemma_url, GEMMA, "off")


@pytest.mark.parametrize("profile", ["base", "off"])
def test_every_prompt_begins_with_bos(gemma_url: str, gemma_tokenizer: ModelTokenizer, profile: str) -> None:
    body = {"model": f"{GEMMA}:{profile}", "messages": [{"role": "user", "content": QUESTION}]}
    sent = httpx.post(f"{gemma_url}/v1/alignment/render", json=body, timeout=60).json()["body"]
    tokens = httpx.post(f"{gemma_url}/tokenize", json={**sent, "model": GEMMA}, timeout=60).json()["tokens"]
    (bos,) = gemma_tokenizer.encode("<bos>")
    assert tokens[0] == bos
    assert tokens.count(bos) == 1
