"""What requests for responses and messages become where they are rendered as a completion."""

import pytest

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.completion import STOPS, render_completion
from server.rendering.forms.anthropic import AnthropicForm
from server.rendering.forms.base import Form
from server.rendering.forms.responses import ResponsesForm
from server.rendering.sanitise import Sanitiser
from tests.rendering.builders import SELECTION, make_profile, make_template

PROFILE = make_profile(Rendering.COMPLETION)
TEMPLATE = make_template(PROFILE)
HELLO: Body = {"role": "user", "content": "Hello"}
SCHEMA: Body = {"type": "object"}
IMAGE: Body = {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}


def render(form: Form, body: Body) -> Body:
    return render_completion(form, PROFILE, TEMPLATE, [SELECTION], body, Sanitiser())


def response(**fields: object) -> Body:
    return render(ResponsesForm(), {"input": "Hello", **fields})


def message(**fields: object) -> Body:
    return render(AnthropicForm(), {"messages": [HELLO], **fields})


def test_a_response_keeps_what_a_completion_understands() -> None:
    kept = {"model": "m", "top_p": 0.5, "seed": 1, "user": "u", "top_k": 3, "stop": "END"}
    dropped = {"store": True, "metadata": {}, "reasoning": {}, "include": [], "n": 3, "echo": True, "top_logprobs": 0}
    sent = response(**kept, **dropped, instructions="Terse.", max_output_tokens=9, include_stop_str_in_output=True)
    assert "Terse." in sent.pop("prompt")
    assert sent == {**kept, "max_tokens": 9, "temperature": 0.5, "stop": ["END", *STOPS[:-1]]}


def test_a_message_keeps_what_a_completion_understands() -> None:
    kept = {"model": "m", "top_p": 0.5, "top_k": 3}
    dropped = {"metadata": {}, "thinking": {"type": "enabled"}, "n": 3, "suffix": "x"}
    sent = message(**kept, **dropped, system="Terse.", max_tokens=9, stop_sequences=["END"])
    assert "Terse." in sent.pop("prompt")
    assert sent == {**kept, "max_tokens": 9, "temperature": 0.5, "stop": ["END", *STOPS[:-1]]}


def test_the_profile_limits_where_the_client_does_not() -> None:
    assert response()["max_tokens"] == message()["max_tokens"] == 64


def test_a_stream_is_asked_for_its_usage() -> None:
    for sent in (response(stream=True, stream_options={"include_obfuscation": False}), message(stream=True)):
        assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert "stream_options" not in response(stream=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ({"format": {"type": "text"}}, {"type": "text"}),
        ({"format": {"type": "json_object"}}, {"type": "json_object"}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        ),
    ],
)
def test_the_form_of_a_response_goes_along(text: object, expected: object) -> None:
    assert response(text=text).get("response_format") == expected


def test_the_form_of_a_message_goes_along() -> None:
    sent = message(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert sent["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


def test_tools_that_are_not_to_be_used_are_left_out() -> None:
    assert "tools" not in response(tools=[{"type": "function"}], tool_choice="none")
    assert "tools" not in message(tools=[{"name": "f"}], tool_choice={"type": "none"})


def test_reasoning_of_an_earlier_answer_is_passed_over() -> None:
    answered = [{"type": "reasoning", "summary": []}, {"role": "assistant", "content": "Hi."}]
    assert "\nHi.\n" in response(input=[HELLO, *answered, HELLO])["prompt"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"text": 5}, "text"),
        ({"text": {"format": 5}}, "text.format"),
        ({"stop": 5}, "stop"),
        ({"input": [IMAGE]}, "input[0]"),
        ({"input": [HELLO, {"role": "assistant", "content": "Ho"}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "i"}, HELLO]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "output": "2"}, HELLO]}, "input[0]"),
    ],
)
def test_what_a_base_model_cannot_do_is_refused_in_a_response(fields: Body, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        response(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"name": "f"}]}, "tools"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"output_config": {"format": 5}}, "output_config.format"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0]"),
        ({"messages": [HELLO, {"role": "assistant", "content": "Ho"}]}, "messages"),
    ],
)
def test_what_a_base_model_cannot_do_is_refused_in_a_message(fields: Body, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        message(**fields)
    assert caught.value.param == param
