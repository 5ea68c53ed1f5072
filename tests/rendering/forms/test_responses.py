import pytest

from server.core.errors import InvalidRequestError
from server.core.types import Body, Exchange
from server.rendering.forms.base import Context
from server.rendering.forms.responses import ResponsesForm

FORM = ResponsesForm()
CONTEXT = Context("Be kind.", [Exchange("2 + 2?", "4")])
TURNS = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
CALL: Body = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 1}'}
RESULT: Body = {"type": "function_call_output", "call_id": "c", "output": "2"}


def test_instructions_and_input_are_one_conversation() -> None:
    assert FORM.read({"instructions": "Terse.", "input": "Hello"}) == [
        [{"role": "system", "content": "Terse."}, {"role": "user", "content": "Hello"}]
    ]


def test_items_become_messages() -> None:
    parts = [{"type": "input_text", "text": "Add."}]
    (messages,) = FORM.read({"input": [{"role": "user", "content": parts}, CALL, RESULT, {"type": "reasoning"}]})
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[0]["content"] == parts
    assert messages[1]["tool_calls"] == [{"function": {"name": "add", "arguments": '{"a": 1}'}}]
    assert messages[2]["content"] == "2"


def test_the_context_goes_into_instructions_and_before_the_items() -> None:
    asked = [{"role": "developer", "content": "Late."}, {"role": "user", "content": "Add."}, CALL, RESULT]
    written = FORM.write_chat({"instructions": "Terse.", "input": asked, "store": False}, [CONTEXT])
    assert written == {"instructions": "Be kind.", "input": [*TURNS, *asked[1:]], "store": False}
    assert FORM.write_chat({"input": "Hi"}, [CONTEXT])["input"] == [*TURNS, {"role": "user", "content": "Hi"}]


def test_a_reminder_is_in_the_last_message_of_the_user() -> None:
    context = Context("", [], reminder="Be kind.")
    assert FORM.write_chat({"input": "Hi"}, [context])["input"] == [{"role": "user", "content": "Hi\n\nBe kind."}]
    image: Body = {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}
    reminded = [*image["content"], {"type": "input_text", "text": "Be kind."}]
    written = FORM.write_chat({"input": [image, CALL, RESULT]}, [context])
    assert written["input"] == [{"role": "user", "content": reminded}, CALL, RESULT]


def test_an_opening_is_a_last_item_that_is_not_complete() -> None:
    written = FORM.write_chat({"input": "Hi"}, [Context("", [], opening="Sure:")])
    asked, opening = written["input"]
    assert asked == {"role": "user", "content": "Hi"}
    assert (opening["role"], opening["status"], opening["content"][0]["text"]) == ("assistant", "incomplete", "Sure:")
    assert FORM.read(written)[0][-1]["role"] == "assistant"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": "x", "instructions": 5}, "instructions"),
        ({"input": "x", "truncation": "auto"}, "truncation"),
    ],
)
def test_what_cannot_be_aligned_is_refused(fields: Body, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        FORM.read(fields)
    assert caught.value.param == param
