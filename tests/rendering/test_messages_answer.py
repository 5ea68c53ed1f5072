import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from server.core.types import Body
from server.rendering.messages_answer import to_message, to_message_events
from server.rendering.sanitise import FENCE
from tests.rendering.builders import make_completion, make_completion_events, mapped

STREAM = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]


def stream(events: list[Body]) -> list[Body]:
    return mapped(lambda source: to_message_events(source, ["END"]), events)


def test_a_completion_becomes_a_message() -> None:
    body = to_message(make_completion("Bonjour", "stop", "\n" + FENCE), [])
    message = Message.model_validate(body)
    assert (message.id, message.type, message.role, message.model) == ("msg_7", "message", "assistant", "m")
    assert [block.text for block in message.content if block.type == "text"] == ["Bonjour"]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert FENCE not in str(body)


def test_usage_counts_what_came_from_the_cache_apart() -> None:
    assert to_message(make_completion("Hi"), [])["usage"] == {
        "input_tokens": 6,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
    }
    unknown = {**make_completion("Hi"), "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    assert to_message(unknown, [])["usage"] == {"input_tokens": 10, "output_tokens": 2}


@pytest.mark.parametrize(
    ("finish_reason", "stop", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", "END", ("stop_sequence", "END")),
        ("stop", "\n# Query:", ("end_turn", None)),
        ("stop", 128001, ("end_turn", None)),
        ("length", None, ("max_tokens", None)),
        ("content_filter", None, ("refusal", None)),
    ],
)
def test_why_it_ended(finish_reason: str, stop: object, expected: tuple[str, str | None]) -> None:
    whole = to_message(make_completion("Hi", finish_reason, stop), ["END"])
    events = stream(make_completion_events("Hi", finish_reason=finish_reason, stop_reason=stop))
    for end in (whole, events[-2]["delta"]):
        assert (end["stop_reason"], end["stop_sequence"]) == expected


def test_a_completion_stream_becomes_a_message_stream() -> None:
    events = stream(make_completion_events("Bon", "jour"))
    assert [event["type"] for event in events] == STREAM
    for event in events:
        TypeAdapter(RawMessageStreamEvent).validate_python(event)
    start, block, *deltas, _, end, _ = events
    assert start["message"]["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert (start["message"]["id"], start["message"]["content"]) == ("msg_7", [])
    assert block["content_block"] == {"type": "text", "text": ""}
    assert [event["delta"]["text"] for event in deltas] == ["Bon", "jour"]
    assert end["usage"] == to_message(make_completion("Bonjour"), [])["usage"]


def test_an_empty_answer_is_an_empty_block() -> None:
    assert to_message(make_completion(""), [])["content"] == [{"type": "text", "text": ""}]
    assert [event["type"] for event in stream(make_completion_events(""))] == [*STREAM[:2], *STREAM[4:]]
