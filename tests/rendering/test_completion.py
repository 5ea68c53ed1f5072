import time
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import EngineError, InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.completion import render_completion, to_chat, to_chat_events
from server.rendering.forms.chat import ChatForm
from server.rendering.sanitise import FENCE, Sanitiser
from tests.golden import assert_golden
from tests.rendering.builders import SELECTION, make_profile, make_template
from tests.rendering.test_sanitise import hostile

PROFILE = make_profile(Rendering.COMPLETION)
TEMPLATE = make_template(PROFILE)


def render(messages: list[Body], **fields: object) -> Body:
    body = {"messages": messages, **fields}
    return render_completion(ChatForm(), PROFILE, TEMPLATE, [SELECTION], body, Sanitiser())


def turn(role: str, text: str) -> Body:
    return {"role": role, "content": text}


def test_prompt_is_golden() -> None:
    messages = [turn("system", "Speak French."), turn("user", "Hi"), turn("assistant", "Salut"), turn("user", "3 + 3?")]
    assert_golden("completion.txt", render(messages)["prompt"])


@given(texts=st.lists(hostile, min_size=3, max_size=3), system=hostile)
def test_no_client_text_closes_a_fence_or_forges_a_turn(texts: list[str], system: str) -> None:
    plain = render([turn("system", "x"), turn("user", "x"), turn("assistant", "x"), turn("user", "x")])["prompt"]
    history = [turn(role, text) for role, text in zip(("user", "assistant", "user"), texts, strict=True)]
    prompt = render([turn("system", system or "x"), *history])["prompt"]
    assert prompt.count(FENCE) == plain.count(FENCE)
    assert outside_fences(prompt) == outside_fences(plain)


def outside_fences(prompt: str) -> list[str]:
    """What stands between blocks: headings, which are all a turn is made of."""
    return prompt.split(FENCE)[::2]


def test_it_goes_to_completions_with_the_closing_fence_as_stop() -> None:
    body = render([turn("user", "Hi")], stop="END", max_completion_tokens=9, top_p=0.5, seed=1)
    assert body["stop"] == ["END", "\n" + FENCE, FENCE, "\n# Query:"]
    # The heading that ends an answer is the one that the template gives a query.
    assert body["prompt"].count("\n# Query:\n") == 3
    assert (body["max_tokens"], body["top_p"], body["seed"], body["temperature"]) == (9, 0.5, 1, 0.5)
    assert "messages" not in body
    assert "max_completion_tokens" not in body
    assert body["prompt"].endswith(f"# Answer:\n{FENCE}\n")


@pytest.mark.parametrize("stop", [["a", "b"], ["a", "b", "c"]])
def test_there_are_no_more_stops_than_engines_take(stop: list[str]) -> None:
    stops = render([turn("user", "Hi")], stop=stop)["stop"]
    assert stops == [*stop, "\n" + FENCE, FENCE][:4]


def test_a_continued_answer_opens_the_block() -> None:
    prompt = render([turn("user", "Hi"), turn("assistant", "Well, ")], continue_final_message=True)["prompt"]
    assert prompt.endswith(f"{FENCE}\nWell, ")


def test_a_reminder_stands_between_the_query_and_its_answer() -> None:
    messages = [turn("user", "One"), turn("assistant", "Two"), turn("user", "Hi")]
    reminded = [replace(SELECTION, reminder="Be ~~~~ kind, <s>please.")]
    prompt = render_completion(ChatForm(), PROFILE, TEMPLATE, reminded, {"messages": messages}, Sanitiser())["prompt"]
    head, answer = render(messages)["prompt"][: -len(f"\n# Answer:\n{FENCE}\n")], f"\n# Answer:\n{FENCE}\n"
    assert prompt == f"{head}\n# Note\nBe ~~~\u200b~ kind, <\u200bs>please.\n{answer}"


def test_an_opening_begins_the_answer_in_its_open_block() -> None:
    body: Body = {"messages": [turn("user", "Hi")]}
    opened = [replace(SELECTION, opening="I'm ~~~~ sorry, <s>but")]
    prompt = render_completion(ChatForm(), PROFILE, TEMPLATE, opened, body, Sanitiser())["prompt"]
    plain = render([turn("user", "Hi")])["prompt"]
    assert prompt == f"{plain}I'm ~~~\u200b~ sorry, <\u200bs>but"


def test_neighbours_of_one_role_are_joined() -> None:
    prompt = render([turn("user", "One"), turn("user", "Two")])["prompt"]
    assert "One\n\nTwo" in prompt


def test_many_neighbours_of_one_role_take_no_time() -> None:
    started_s = time.perf_counter()
    render([turn("user", "word " * 10)] * 100_000)
    assert time.perf_counter() - started_s < 3


def test_logprobs_are_asked_for_in_the_completions_way() -> None:
    assert render([turn("user", "Hi")], logprobs=True, top_logprobs=3)["logprobs"] == 3
    assert render([turn("user", "Hi")], logprobs=True)["logprobs"] == 0
    assert "logprobs" not in render([turn("user", "Hi")], logprobs=False)


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        ([turn("user", "Hi")], {"tools": [{"type": "function"}]}, "tools"),
        ([turn("user", "Hi"), turn("assistant", "Ho")], {}, "messages"),
        ([turn("user", "Hi"), turn("tool", "Ho")], {}, "messages[1]"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], {}, "messages[0]"),
        ([turn("user", "Hi")], {"stop": 5}, "stop"),
        ([turn("user", "Hi")], {"stop": ["a", "b", "c", "d"]}, "stop"),
        ([turn("user", "Hi")], {"include_stop_str_in_output": True}, "include_stop_str_in_output"),
        ([turn("user", "Hi")], {"logprobs": True, "top_logprobs": "x"}, "top_logprobs"),
        ([turn("user", "Hi")], {"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ([{"role": "user", "content": [{"type": "image_url", "text": "x"}]}], {}, "messages[0]"),
        ([{"role": "user", "content": [{"type": ["text"], "text": "x"}]}], {}, "messages[0].content[0]"),
    ],
)
def test_what_a_base_model_cannot_do_is_refused(messages: list[Body], fields: Body, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        render(messages, **fields)
    assert caught.value.param == param


def test_fields_that_would_reveal_or_change_the_prompt_stay_behind() -> None:
    body = render([turn("user", "Hi")], echo=True, suffix="~~~~", prompt="mine", max_tokens=None, temperature=None)
    assert not {"echo", "suffix"} & set(body)
    assert "mine" not in body["prompt"]
    assert (body["max_tokens"], body["temperature"]) == (64, 0.5)


@pytest.mark.parametrize(
    "answer",
    [{}, {"choices": None}, {"choices": ["x"]}, {"choices": [{"index": 0, "text": "x", "logprobs": {"content": []}}]}],
)
def test_an_answer_that_is_no_completion_is_the_engines_fault(answer: Body) -> None:
    with pytest.raises(EngineError):
        to_chat(answer, num_top=0)


def test_tools_that_are_not_to_be_used_are_left_out() -> None:
    assert "tools" not in render([turn("user", "Hi")], tools=[{"type": "function"}], tool_choice="none")


COMPLETION: Body = {
    "id": "cmpl-7",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "text": "Bonjour",
            "finish_reason": "stop",
            "stop_reason": "\n" + FENCE,
            "logprobs": {"tokens": ["Bon", "jour"], "token_logprobs": [-0.1, -0.2], "top_logprobs": None},
        }
    ],
    "usage": {"total_tokens": 3},
}


def test_a_completion_becomes_a_chat_answer() -> None:
    chat = to_chat(COMPLETION, num_top=0)
    assert (chat["id"], chat["object"], chat["usage"]) == ("chatcmpl-7", "chat.completion", {"total_tokens": 3})
    choice = chat["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Bonjour"}
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["Bon", "jour"]
    assert choice["logprobs"]["content"][0] == {
        "token": "Bon",
        "logprob": -0.1,
        "bytes": [66, 111, 110],
        "top_logprobs": [],
    }


def test_what_is_said_of_the_prompt_stands_beside_the_choices() -> None:
    choice = {"index": 0, "text": "a", "prompt_logprobs": [None], "prompt_token_ids": [7], "token_ids": [8]}
    chat = to_chat({"choices": [choice]}, num_top=0)
    assert (chat["prompt_logprobs"], chat["prompt_token_ids"]) == ([None], [7])
    assert set(chat["choices"][0]) == {"index", "message", "logprobs", "token_ids"}


def test_top_logprobs_are_cut_to_what_was_asked_for() -> None:
    choice = {"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [-2.0]}}
    choice["logprobs"]["top_logprobs"] = [{"a": -2.0, "b": -0.5, "c": -1.0}]  # type: ignore[index]
    chat = to_chat({"choices": [choice]}, num_top=2)
    assert [top["token"] for top in chat["choices"][0]["logprobs"]["content"][0]["top_logprobs"]] == ["b", "c"]


def test_a_completion_stream_becomes_a_chat_stream() -> None:
    async def source() -> AsyncIterator[Body]:
        for index in (0, 1):
            yield {"id": "cmpl-7", "choices": [{"index": index, "text": "A", "finish_reason": None}]}
        yield {"id": "cmpl-7", "choices": [{"index": 0, "text": "B", "finish_reason": "stop"}]}
        yield {"id": "cmpl-7", "choices": [], "usage": {"total_tokens": 3}}

    async def collect() -> list[Body]:
        return [event async for event in to_chat_events(source(), num_top=0)]

    events = anyio.run(collect)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    deltas = [event["choices"][0]["delta"] for event in events[:3]]
    assert deltas == [
        {"role": "assistant", "content": "A"},
        {"role": "assistant", "content": "A"},
        {"content": "B"},
    ]
    assert events[2]["choices"][0]["finish_reason"] == "stop"
    assert events[3]["usage"] == {"total_tokens": 3}
    assert events[3]["choices"] == []
