from dataclasses import replace

import pytest

from server.core.errors import EngineError
from server.core.types import Body, Obstacle, Rendering, Selection
from server.rendering.forms.registry import FORMS
from server.rendering.openings import Openings, allow_opening, openings_of
from tests.rendering.builders import SELECTION, make_profile, mapped

SORRY = "I'm sorry, but"
OPENED = replace(SELECTION, opening=SORRY)
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def allowed(path: str, body: Body, rendering: Rendering = Rendering.CHAT, *, can_continue: bool = True) -> Selection:
    form, body = FORMS[path], {"messages": [{"role": "user", "content": "Hi"}], "input": "Hi", "prompt": "Hi", **body}
    profile = make_profile(rendering)
    (messages,) = form.read(body)
    return allow_opening(OPENED, form, profile, body, messages, engine_continues=can_continue)


ENDED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {}}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("path", "body", "obstacle"),
    [
        (CHAT, {"tools": TOOLS}, "tools"),
        (CHAT, {"functions": TOOLS}, "tools"),
        (RESPONSES, {"tools": TOOLS}, "tools"),
        (CHAT, {"response_format": SCHEMA}, "structured_output"),
        (CHAT, {"response_format": {"type": "json_object"}}, "structured_output"),
        (CHAT, {"structured_outputs": {"regex": "a+"}}, "structured_output"),
        (CHAT, {"guided_choice": ["a"]}, "structured_output"),
        (RESPONSES, {"text": {"format": SCHEMA}}, "structured_output"),
        (MESSAGES, {"output_config": {"format": SCHEMA}}, "structured_output"),
        (CHAT, {"messages": ENDED, "continue_final_message": True}, "client_continues"),
        (CHAT, {"messages": ENDED}, "client_continues"),
        (RESPONSES, {"input": ENDED}, "client_continues"),
        (MESSAGES, {}, "endpoint"),
        (RESPONSES, {"background": True}, "endpoint"),
    ],
)
def test_what_an_opening_would_break_is_left_without_it(path: str, body: Body, obstacle: str) -> None:
    assert allowed(path, body) == replace(SELECTION, obstacle=Obstacle(obstacle))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"response_format": {"type": "text"}, "tools": [], "structured_outputs": None}),
        (CHAT, {"tools": TOOLS, "tool_choice": "none", "add_generation_prompt": False}),
        (RESPONSES, {"text": {"format": {"type": "text"}, "verbosity": "low"}}),
    ],
)
def test_other_requests_have_their_opening(path: str, body: Body) -> None:
    assert allowed(path, body) == OPENED


def test_only_a_chat_needs_an_engine_that_continues_it() -> None:
    assert allowed(CHAT, {}, can_continue=False).obstacle is Obstacle.ENGINE
    for path in (CHAT, MESSAGES, "/v1/completions"):
        assert allowed(path, {}, Rendering.COMPLETION, can_continue=False) == OPENED


def test_a_format_of_the_profiles_own_counts_too() -> None:
    profile = replace(make_profile(Rendering.CHAT), sampling={"response_format": {"type": "json_object"}})
    body: Body = {"messages": ENDED[:1]}
    found = allow_opening(OPENED, FORMS[CHAT], profile, body, body["messages"], engine_continues=True)
    assert found.obstacle is Obstacle.STRUCTURED_OUTPUT


def test_nothing_is_put_where_nothing_opens() -> None:
    assert openings_of([SELECTION, SELECTION], {}) is None
    assert openings_of([], {}) is None


@pytest.mark.parametrize("wanted", [2, "2", 2.0])
def test_each_choice_has_the_opening_of_its_conversation(wanted: object) -> None:
    openings = openings_of([OPENED, SELECTION], {"n": wanted})
    assert openings is not None
    choices = [{"index": index, "text": " x"} for index in range(4)]
    assert [choice["text"] for choice in openings.whole({"choices": choices})["choices"]] == [
        *(f"{SORRY} x", f"{SORRY} x"),
        *(" x", " x"),
    ]
    assert openings_of([OPENED], {"n": [2]}) == Openings([SORRY], 1)


def test_a_message_without_text_is_its_opening() -> None:
    body: Body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}], "usage": {"a": 1}}
    found = Openings([SORRY], 1).whole(body)
    assert found == {**body, "choices": [{"index": 0, "message": {"role": "assistant", "content": SORRY}}]}


def test_tokens_keep_their_places_in_the_text() -> None:
    logprobs = {"tokens": [" x", "y"], "text_offset": [0, 2]}
    (choice,) = Openings([SORRY], 1).whole({"choices": [{"index": 0, "text": " xy", "logprobs": logprobs}]})["choices"]
    for token, offset in zip(choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)
    assert choice["logprobs"]["tokens"] == [" x", "y"]


def test_a_stream_has_it_in_the_first_event_of_each_choice() -> None:
    role = {"role": "assistant", "content": ""}
    events: list[Body] = [
        {"choices": []},
        {"choices": [{"index": 1, "delta": role}]},
        {"choices": [{"index": 0, "delta": {"role": "assistant"}}, {"index": 1, "delta": {"content": " b"}}]},
        {"choices": [{"index": 0, "delta": {"content": " a"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"total_tokens": 3}},
    ]
    found = mapped(Openings([SORRY], 2).events, events)
    assert [[choice["delta"] for choice in event["choices"]] for event in found] == [
        [],
        [{"role": "assistant", "content": SORRY}],
        [{"role": "assistant", "content": SORRY}, {"content": " b"}],
        [{"content": " a"}],
        [],
    ]
    assert found[-1] == events[-1]


MESSAGE: Body = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": " x y"}]}
REASONING: Body = {"type": "reasoning", "id": "r", "content": []}


def test_a_response_has_it_wherever_its_text_is_told() -> None:
    done: Body = {"output": [REASONING, MESSAGE]}
    spot = {"item_id": "m"}
    events: list[Body] = [
        {"type": "response.created", "response": {"output": []}},
        {"type": "response.output_item.done", "item": REASONING},
        {"type": "response.output_text.delta", **spot, "delta": " x"},
        {"type": "response.output_text.delta", **spot, "delta": " y"},
        {"type": "response.output_text.done", **spot, "text": " x y"},
        {"type": "response.content_part.done", **spot, "part": MESSAGE["content"][0]},
        {"type": "response.output_item.done", "item": MESSAGE},
        {"type": "response.completed", "response": done},
    ]
    opened = {**MESSAGE, "content": [{"type": "output_text", "text": f"{SORRY} x y"}]}
    found = mapped(Openings([SORRY], 1).events, events)
    assert found[:2] == events[:2]
    assert [event["delta"] for event in found[2:4]] == [f"{SORRY} x", " y"]
    assert (found[4]["text"], found[5]["part"]) == (f"{SORRY} x y", opened["content"][0])
    assert (found[6]["item"], found[7]["response"]) == (opened, {"output": [REASONING, opened]})
    assert Openings([SORRY], 1).whole(done) == {"output": [REASONING, opened]}


def test_errors_pass() -> None:
    events: list[Body] = [{"error": {"message": "no"}}, {"type": "error", "error": {"message": "no"}}]
    assert mapped(Openings([SORRY], 1).events, events) == events


@pytest.mark.parametrize("body", [{"choices": None}, {"choices": [{"text": "x"}]}, {"choices": [{"index": 0}]}])
def test_an_answer_of_another_form_is_the_engines_fault(body: Body) -> None:
    with pytest.raises(EngineError):
        Openings([SORRY], 1).whole(body)
