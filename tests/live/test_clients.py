"""Python clients as people use them, against the real engine. What the model says is never at stake."""

from typing import Literal

import anthropic
import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, SecretStr

from server.core.types import Body
from tests.live.conftest import SMOLLM2

QUESTION = "Name three uses of baking soda."
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
TRACE: Body = {"alignment": {"trace": True}}
NUM_ALIGNED_TOKENS = 200
"""A prompt with principles and demonstrations is longer than this, the question alone far shorter."""


class Verdict(BaseModel):
    """Guided decoding comes to an end here, whatever the model: each field is one of a few words."""

    room: Literal["kitchen", "garden"]
    useful: bool


@pytest.fixture
def client(smollm2_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2_url}/v1", api_key="none", max_retries=0)


def test_openai_reads_answer_headers_and_trace(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=SMOLLM2, messages=MESSAGES, temperature=0, max_tokens=20, extra_body=TRACE
    )
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > NUM_ALIGNED_TOKENS
    assert raw.headers["x-alignment-profile"].startswith("default@")
    assert answer.model_extra is not None
    assert answer.model_extra["alignment"]["trace_id"] == raw.headers["x-alignment-trace-id"]


@pytest.mark.anyio
async def test_openai_streams_to_an_async_client(smollm2_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{smollm2_url}/v1", api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=SMOLLM2,
            messages=MESSAGES,
            temperature=0,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=TRACE,
        )
        chunks = [chunk async for chunk in stream]
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    extras = [chunk.model_extra or {} for chunk in chunks]
    assert len(texts) > 1
    assert usages[-1].prompt_tokens > NUM_ALIGNED_TOKENS
    assert [extra["alignment"]["profile"] for extra in extras if "alignment" in extra] == ["default"]


def test_openai_stream_helper_parses_as_it_goes(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=SMOLLM2,
        messages=MESSAGES,
        temperature=0,
        max_tokens=200,
        response_format=Verdict,
        stream_options={"include_usage": True},
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("content.delta") > 1
    assert kinds.count("content.done") == 1
    assert isinstance(final.choices[0].message.parsed, Verdict)
    assert final.usage is not None
    assert final.usage.prompt_tokens > NUM_ALIGNED_TOKENS


def test_openai_stream_helper_keeps_usage_beside_the_trace(client: openai.OpenAI) -> None:
    """The helper takes usage from each chunk anew, so that none may follow the one that has it."""
    with client.chat.completions.stream(
        model=SMOLLM2,
        messages=MESSAGES,
        temperature=0,
        max_tokens=200,
        response_format=Verdict,
        stream_options={"include_usage": True},
        extra_body=TRACE,
    ) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        final = stream.get_final_completion()
    assert any("alignment" in (chunk.model_extra or {}) for chunk in chunks)
    assert final.usage is not None


def test_openai_parses_structured_output(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=SMOLLM2, messages=MESSAGES, temperature=0, max_tokens=200, response_format=Verdict, extra_body=TRACE
    )
    assert isinstance(answer.choices[0].message.parsed, Verdict)
    assert answer.model_extra is not None
    assert answer.model_extra["alignment"]["profile"] == "default"


def test_openai_calls_the_named_tool(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=SMOLLM2,
        messages=MESSAGES,
        temperature=0,
        max_tokens=200,
        tools=[openai.pydantic_function_tool(Verdict, name="judge")],
        tool_choice={"type": "function", "function": {"name": "judge"}},
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "judge"
    assert isinstance(call.function.parsed_arguments, Verdict)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > NUM_ALIGNED_TOKENS


def test_openai_streams_the_call_of_the_named_tool(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=SMOLLM2,
        messages=MESSAGES,
        temperature=0,
        max_tokens=200,
        tools=[openai.pydantic_function_tool(Verdict, name="judge")],
        tool_choice={"type": "function", "function": {"name": "judge"}},
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert kinds.count("tool_calls.function.arguments.done") == 1
    assert isinstance(call.function.parsed_arguments, Verdict)


def test_openai_gets_a_response(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model=SMOLLM2, input=QUESTION, max_output_tokens=20, temperature=0)
    answer = raw.parse()
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.input_tokens > NUM_ALIGNED_TOKENS
    assert raw.headers["x-alignment-profile"].startswith("default@")


def test_openai_streams_a_response(client: openai.OpenAI) -> None:
    stream = client.responses.create(model=SMOLLM2, input=QUESTION, max_output_tokens=20, temperature=0, stream=True)
    events = list(stream)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert len(deltas) > 1
    assert last.type == "response.completed" or last.type == "response.incomplete"
    assert last.response.output_text == "".join(deltas)
    assert last.response.usage is not None


def test_openai_stream_helper_gets_a_structured_response(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model=SMOLLM2, input=QUESTION, max_output_tokens=200, temperature=0, text_format=Verdict
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds.count("response.output_text.delta") > 1
    assert isinstance(final.output_parsed, Verdict)


def test_openai_completes_a_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=f"{SMOLLM2}:off", prompt="Once upon a time", max_tokens=8)
    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_openai_lists_models_and_retrieves_each(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {SMOLLM2, f"{SMOLLM2}:default", f"{SMOLLM2}:off"} <= set(names)
    assert [client.models.retrieve(name).id for name in names] == names


def test_openai_raises_not_found_for_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody") as caught:
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"alignment": {"num_demonstrations": -1}}, "alignment.num_demonstrations"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_openai_raises_bad_request_with_the_field(client: openai.OpenAI, body: Body, param: str, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=SMOLLM2, messages=MESSAGES, extra_body=body, stream=stream)
    assert caught.value.param == param
    assert caught.value.type


@pytest.fixture
def messenger(smollm2_url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=smollm2_url, api_key="none", max_retries=0)


def test_anthropic_gets_a_message(messenger: anthropic.Anthropic) -> None:
    raw = messenger.messages.with_raw_response.create(
        model=SMOLLM2,
        max_tokens=20,
        system="Be brief.",
        messages=[{"role": "user", "content": QUESTION}],
    )
    answer = raw.parse()
    (block,) = answer.content
    assert block.type == "text"
    assert block.text
    # Anthropic counts what was cached, or put into the cache, apart.
    usage = answer.usage
    counts = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
    assert sum(count or 0 for count in counts) > NUM_ALIGNED_TOKENS
    assert raw.headers["x-alignment-profile"].startswith("default@")


def test_anthropic_streams_a_message(messenger: anthropic.Anthropic) -> None:
    with messenger.messages.stream(
        model=SMOLLM2, max_tokens=20, messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(texts) > 1
    assert [block.text for block in final.content if block.type == "text"] == ["".join(texts)]
    assert final.stop_reason in {"end_turn", "max_tokens"}
    assert final.usage.output_tokens > 1


def test_anthropic_raises_not_found_for_an_unknown_model(messenger: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody") as caught:
        messenger.messages.create(model="nobody", max_tokens=20, messages=[{"role": "user", "content": QUESTION}])
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"


@pytest.fixture
def chain(smollm2_url: str, monkeypatch: pytest.MonkeyPatch) -> ChatOpenAI:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    return ChatOpenAI(
        model=SMOLLM2,
        base_url=f"{smollm2_url}/v1",
        api_key=SecretStr("none"),
        temperature=0,
        max_completion_tokens=200,
        max_retries=0,
        stream_usage=True,
        include_response_headers=True,
    )


def test_langchain_invokes(chain: ChatOpenAI) -> None:
    answer = chain.invoke(QUESTION, max_completion_tokens=20)
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] > NUM_ALIGNED_TOKENS
    assert answer.response_metadata["headers"]["x-alignment-profile"].startswith("default@")


def test_langchain_streams(chain: ChatOpenAI) -> None:
    chunks = list(chain.stream(QUESTION, max_completion_tokens=20))
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(whole, AIMessageChunk)
    assert len([chunk for chunk in chunks if chunk.text]) > 1
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["input_tokens"] > NUM_ALIGNED_TOKENS


def test_langchain_parses_structured_output(chain: ChatOpenAI) -> None:
    assert isinstance(chain.with_structured_output(Verdict).invoke(QUESTION), Verdict)


def test_langchain_calls_the_forced_tool(chain: ChatOpenAI) -> None:
    answer = chain.bind_tools([Verdict], tool_choice="Verdict", strict=True).invoke(QUESTION)
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert call["name"] == "Verdict"
    assert Verdict.model_validate(call["args"])
