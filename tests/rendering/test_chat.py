from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, Template

from server.core.errors import InvalidRequestError
from server.core.types import Body, Placement, Rendering, Route, Selection
from server.engine.packaged import prepare_model
from server.rendering.chat import render_chat
from server.rendering.forms.chat import ChatForm
from server.rendering.sanitise import Sanitiser
from server.rendering.tokens import ModelTokenizer
from server.settings import default_cache_dir
from tests.golden import assert_golden
from tests.rendering.builders import SELECTION, make_profile, make_template
from tests.rendering.test_sanitise import hostile


def render(messages: list[Body], placement: Placement = Placement.TURNS, **fields: object) -> Body:
    profile = make_profile(Rendering.CHAT, placement)
    body = {"messages": messages, **fields}
    return render_chat(ChatForm(), profile, make_template(profile), [SELECTION], body, Sanitiser())


def user(text: str) -> Body:
    return {"role": "user", "content": text}


def test_turns_come_between_system_text_and_the_clients_messages() -> None:
    messages = render([user("3 + 3?")])["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in messages[1:]] == [
        "Is it raining?",
        "I can't see outside.",
        "2 + 2?",
        "4",
        "3 + 3?",
    ]


@pytest.mark.parametrize("placement", list(Placement))
def test_system_text_is_golden(placement: Placement) -> None:
    messages = render([{"role": "system", "content": "Speak French."}, user("3 + 3?")], placement)["messages"]
    assert_golden(f"chat-{placement.value}.txt", messages[0]["content"])


def test_on_a_route_that_is_not_aligned_messages_stay_as_they_are() -> None:
    profile = replace(make_profile(Rendering.CHAT), aligned_routes=frozenset({Route.HIGH}))
    messages = [{"role": "system", "content": "Speak French."}, user("3 + 3?")]
    nothing = Selection(0.0, Route.LOW, (), (), (), ())
    for sent in (messages, messages[1:]):
        body: Body = {"messages": sent}
        aligned = render_chat(ChatForm(), profile, make_template(profile), [nothing], body, Sanitiser())
        assert aligned["messages"] == sent


def test_system_placement_adds_no_turns() -> None:
    messages = render([user("3 + 3?")], Placement.SYSTEM)["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]


def test_leading_system_and_developer_messages_join_the_system_text_and_later_ones_stay() -> None:
    messages = render(
        [
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
            user("Hello"),
            {"role": "system", "content": "Late."},
            user("Again"),
        ]
    )["messages"]
    assert "One.\n\nTwo." in messages[0]["content"]
    assert [message["content"] for message in messages[-3:]] == ["Hello", "Late.", "Again"]


def test_without_a_message_demonstrations_go_into_the_system_text() -> None:
    messages = render([{"role": "system", "content": "Only this."}])["messages"]
    assert [message["role"] for message in messages] == ["system"]
    assert "Is it raining?" in messages[0]["content"]


def test_a_system_message_with_more_than_text_stays_a_message() -> None:
    picture = {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    assert picture in render([picture, user("Hi")])["messages"]


def test_tool_calls_and_their_results_stay_together() -> None:
    history: list[Body] = [
        user("Weather in Oslo?"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "4 degrees"},
    ]
    assert render(history)["messages"][-3:] == history


def test_image_parts_pass_through() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is this?"}, part]
    assert render([{"role": "user", "content": content}])["messages"][-1]["content"] == content


def test_unknown_fields_pass_and_the_clients_sampling_beats_the_profiles() -> None:
    body = render([user("Hi")], temperature=1.5, min_p=0.1, response_format={"type": "json_object"})
    assert (body["temperature"], body["min_p"], body["max_tokens"]) == (1.5, 0.1, 64)
    assert body["response_format"] == {"type": "json_object"}


def test_the_clients_body_is_not_changed() -> None:
    messages = [user("Hi <|im_end|>")]
    body = {"messages": messages}
    profile = make_profile(Rendering.CHAT)
    render_chat(ChatForm(), profile, make_template(profile), [SELECTION], body, Sanitiser())
    assert body == {"messages": [user("Hi <|im_end|>")]}


@given(texts=st.lists(hostile, min_size=3, max_size=3), system=hostile, placement=st.sampled_from(Placement))
def test_no_client_text_forges_a_turn_in_the_models_own_chat_format(
    smollm2_tokenizer: ModelTokenizer, texts: list[str], system: str, placement: Placement
) -> None:
    """The packaged model's template and tokenizer: turns open and close once for each message, whatever they say."""
    history = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), texts, strict=True)]
    profile = make_profile(Rendering.CHAT, placement)
    body = {"messages": [{"role": "system", "content": system}, *history]}
    sanitiser = Sanitiser(smollm2_tokenizer.control_tokens)
    messages = render_chat(ChatForm(), profile, make_template(profile), [SELECTION], body, sanitiser)["messages"]
    tokens = smollm2_tokenizer.encode(chat_template().render(messages=messages, add_generation_prompt=True))
    (start,), (end,) = smollm2_tokenizer.encode("<|im_start|>"), smollm2_tokenizer.encode("<|im_end|>")
    assert (tokens.count(start), tokens.count(end)) == (len(messages) + 1, len(messages))


@cache
def chat_template() -> Template:
    folder = prepare_model("smollm2-135m-instruct", default_cache_dir() / "models", report=print)
    return Environment().from_string((folder / "chat_template.jinja").read_text("utf-8"))  # noqa: S701 - not HTML


def test_control_tokens_are_broken_wherever_the_prompt_could_show_them() -> None:
    mark = "<|im_start|>"
    tool = {"type": "function", "function": {"name": "f", "description": f"x {mark}", "parameters": {mark: 1}}}
    body = render([{"role": "user", "content": f"a{mark}", "name": mark}], tools=[tool], documents=[{"text": mark}])
    assert mark not in str(body)


def test_jinja_in_a_message_stays_text() -> None:
    assert render([user("{{ 7 * 7 }}")])["messages"][-1]["content"] == "{{ 7 * 7 }}"
    system = render([{"role": "system", "content": "{{ 7 * 7 }}{% raw %}"}, user("x")])["messages"][0]["content"]
    assert "{{ 7 * 7 }}{% raw %}" in system


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hello", "messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user<|im_end|>", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "messages[0].content[0]"),
        ([{"role": "system", "content": [{"type": ["text"], "text": "x"}]}], "messages[0].content[0]"),
    ],
)
def test_malformed_messages_are_refused_with_their_field(messages: object, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        render(messages)  # type: ignore[arg-type]
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["chat_template", "eos_token", "bos_token", "truncation", "max_length"])
def test_a_client_does_not_replace_what_writes_the_prompt(name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        render([user("Hi")], chat_template_kwargs={"enable_thinking": False, name: "x"})
    assert caught.value.param == f"chat_template_kwargs.{name}"
    with pytest.raises(InvalidRequestError) as caught:
        render([user("Hi")], chat_template="{{ messages[-1].content }}")
    assert caught.value.param == "chat_template"
    assert render([user("Hi")], chat_template=None, chat_template_kwargs={"enable_thinking": False})


@pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
def test_a_conversation_that_the_engine_keeps_gets_no_turns_into_its_middle(field: str) -> None:
    fields: Body = {field: "x"}
    assert [message["role"] for message in render([user("Hi")], **fields)["messages"]] == ["system", "user"]
