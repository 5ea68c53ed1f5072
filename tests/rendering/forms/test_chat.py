import pytest

from server.core.errors import InvalidRequestError
from server.core.types import Body, Exchange
from server.rendering.forms.base import Context
from server.rendering.forms.chat import BatchForm, ChatForm, completion_fields

CONTEXT = Context("Be kind.", [Exchange("2 + 2?", "4")])
SHOWN = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
]
HELLO: Body = {"role": "user", "content": "Hello"}


def test_the_context_takes_the_place_of_leading_system_messages() -> None:
    messages = [{"role": "system", "content": "Terse."}, HELLO, {"role": "system", "content": "Late."}]
    written = ChatForm().write_chat({"messages": messages, "n": 2}, [CONTEXT])
    assert written == {"messages": [*SHOWN, *messages[1:]], "n": 2}


def test_an_empty_context_adds_nothing() -> None:
    assert ChatForm().write_chat({"messages": [HELLO]}, [Context("", [])]) == {"messages": [HELLO]}


def test_a_batch_is_several_conversations() -> None:
    body: Body = {"messages": [[HELLO], [HELLO, HELLO]]}
    assert BatchForm().read(body) == [[HELLO], [HELLO, HELLO]]
    written = BatchForm().write_chat(body, [CONTEXT, Context("", [])])
    assert written["messages"] == [[*SHOWN, HELLO], [HELLO, HELLO]]
    assert BatchForm().write_completion(body, ["a", "b"])["prompt"] == ["a", "b"]


SAID = {"type": "text", "text": "Hello"}
IMAGE: Body = {"type": "image_url", "image_url": {"url": "x"}}
REMINDER = {"type": "text", "text": "Be kind."}


@pytest.mark.parametrize(
    ("content", "reminded"),
    [
        ("Hello", "Hello\n\nBe kind."),
        ([SAID], [{**SAID, "text": "Hello\n\nBe kind."}]),
        ([SAID, IMAGE], [SAID, IMAGE, REMINDER]),
        ([IMAGE], [IMAGE, REMINDER]),
        ("", "Be kind."),
        ([], [REMINDER]),
        (None, "Be kind."),
    ],
)
def test_a_reminder_is_a_further_paragraph_of_the_users_message(content: object, reminded: object) -> None:
    message = {"role": "user", "content": content, "name": "Ann"}
    written = ChatForm().write_chat({"messages": [message]}, [Context("", [], reminder="Be kind.")])
    assert written == {"messages": [{**message, "content": reminded}]}


def test_it_stands_in_the_last_message_in_which_the_user_says_something() -> None:
    others: list[Body] = [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "4"},
        {"role": "user", "content": [IMAGE]},
    ]
    context = Context("", [Exchange("2 + 2?", "4")], reminder="Be kind.")
    written = ChatForm().write_chat({"messages": [HELLO, HELLO, *others]}, [context])["messages"]
    assert written == [*SHOWN[1:], HELLO, {"role": "user", "content": "Hello\n\nBe kind."}, *others]
    assert ChatForm().write_chat({"messages": others[:2]}, [Context("", [], reminder="x")]) == {"messages": others[:2]}


def test_an_opening_is_a_last_message_to_continue() -> None:
    opening = {"role": "assistant", "content": "Sure:"}
    options = {"add_generation_prompt": False, "continue_final_message": True, "echo": False}
    context = Context("", [], opening="Sure:")
    written = ChatForm().write_chat({"messages": [HELLO], "n": 2, "echo": True}, [context])
    assert written == {"messages": [HELLO, opening], "n": 2, **options}
    batch = BatchForm().write_chat({"messages": [[HELLO], [HELLO]]}, [Context("", []), context])
    assert batch == {"messages": [[HELLO, {"role": "assistant", "content": ""}], [HELLO, opening]], **options}


@pytest.mark.parametrize(
    ("messages", "param"),
    [([], "messages"), ("x", "messages"), ([HELLO], "messages[0]"), ([[HELLO], []], "messages[1]")],
)
def test_a_malformed_batch_is_named(messages: object, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        BatchForm().read({"messages": messages})
    assert caught.value.param == param


def test_the_answers_limit_goes_by_either_name() -> None:
    assert completion_fields({"max_completion_tokens": 5, "max_tokens": 9, "stop": "x"}) == {
        "max_tokens": 5,
        "stop": "x",
    }
