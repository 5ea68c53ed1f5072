import pytest

from server.core.errors import InvalidRequestError
from server.core.types import Body, Exchange
from server.rendering.forms.anthropic import AnthropicForm
from server.rendering.forms.base import Context

FORM = AnthropicForm()
HELLO: Body = {"role": "user", "content": "Hello"}
CONTEXT = Context("Be kind.", [Exchange("2 + 2?", "4")])
TURNS = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize("system", ["Terse.", [{"type": "text", "text": "Terse."}]])
def test_system_leads_the_conversation(system: object) -> None:
    (messages,) = FORM.read({"system": system, "messages": [HELLO]})
    assert messages == [{"role": "system", "content": system}, HELLO]


def test_results_of_tools_are_messages_of_their_own() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "2"}]}
    asked = {"role": "user", "content": [result, {"type": "text", "text": "And now?"}]}
    (messages,) = FORM.read({"messages": [HELLO, asked]})
    assert messages == [
        HELLO,
        {"role": "tool", "content": "2"},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]


def test_the_context_goes_into_system_and_before_the_messages() -> None:
    written = FORM.write_chat({"system": "Terse.", "messages": [HELLO], "max_tokens": 5}, [CONTEXT])
    assert written == {"system": "Be kind.", "messages": [*TURNS, HELLO], "max_tokens": 5}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "messages"),
        ({"messages": [HELLO], "system": 5}, "system"),
        ({"messages": [HELLO], "system": [{"type": "text", "text": "Terse."}, {"type": "image"}]}, "system"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": 5}]}]}, "messages"),
    ],
)
def test_malformed_requests_are_refused(fields: Body, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        FORM.read(fields)
    assert caught.value.param == param
