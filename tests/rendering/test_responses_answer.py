import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from server.core.types import Body
from server.rendering.responses_answer import to_response, to_response_events
from server.rendering.sanitise import FENCE
from tests.rendering.builders import make_completion, make_completion_events, mapped

REQUEST: Body = {
    "model": "m",
    "input": "Hi",
    "instructions": "Terse.",
    "metadata": {"a": "b"},
    "temperature": 0.5,
    "max_output_tokens": 64,
    "reasoning": {"effort": "low"},
    "truncation": None,
}
ERROR: Body = {"error": {"message": "The cache is full.", "type": "server_error"}}
STREAM = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def stream(events: list[Body]) -> list[Body]:
    return mapped(lambda source: to_response_events(source, REQUEST), events)


def test_a_completion_becomes_a_response() -> None:
    body = to_response(make_completion("Bonjour", "stop", "\n" + FENCE), REQUEST)
    response = Response.model_validate(body)
    assert (response.id, response.status, response.created_at, response.model) == ("resp_7", "completed", 5, "m")
    assert (response.output_text, response.incomplete_details, response.error) == ("Bonjour", None, None)
    assert (response.output[0].id, response.output[0].type, body["output"][0]["status"]) == (
        "msg_7",
        "message",
        "completed",
    )
    assert FENCE not in str(body)


def test_it_tells_what_it_was_made_with() -> None:
    response = Response.model_validate(to_response(make_completion("Hi"), REQUEST))
    assert (response.instructions, response.metadata, response.temperature) == ("Terse.", {"a": "b"}, 0.5)
    assert (response.max_output_tokens, response.truncation, response.service_tier) == (64, "disabled", "auto")
    assert response.reasoning is not None
    assert (response.reasoning.effort, response.tool_choice, response.tools) == ("low", "none", [])


def test_usage_has_the_names_of_responses() -> None:
    usage = Response.model_validate(to_response(make_completion("Hi"), REQUEST)).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 2, 12)
    assert usage.input_tokens_details.cached_tokens == 4
    assert to_response({**make_completion("Hi"), "usage": None}, REQUEST)["usage"] is None


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_cut_answer_is_incomplete(finish_reason: str, reason: str) -> None:
    whole = to_response(make_completion("Bon", finish_reason), REQUEST)
    streamed = stream(make_completion_events("Bon", finish_reason=finish_reason))[-1]["response"]
    for body in (whole, streamed):
        assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": reason})
        assert body["output"][0]["status"] == "incomplete"


def test_a_completion_stream_becomes_a_response_stream() -> None:
    events = stream(make_completion_events("Bon", "jour"))
    assert [event["type"] for event in events] == STREAM
    assert [event["sequence_number"] for event in events] == list(range(len(STREAM)))
    for event in events:
        TypeAdapter(ResponseStreamEvent).validate_python(event)
    assert [event["delta"] for event in events[4:6]] == ["Bon", "jour"]
    assert events[6]["text"] == events[7]["part"]["text"] == events[8]["item"]["content"][0]["text"] == "Bonjour"
    assert {event["item_id"] for event in events if "item_id" in event} == {"msg_7"}
    first, *_, last = (event["response"] for event in events if "response" in event)
    assert (first["id"], first["status"], first["output"], first["usage"]) == ("resp_7", "in_progress", [], None)
    assert last == to_response(make_completion("Bonjour"), REQUEST)


def test_an_empty_answer_is_an_empty_message() -> None:
    events = stream(make_completion_events(""))
    assert [event["type"] for event in events] == [kind for kind in STREAM if kind != "response.output_text.delta"]
    assert events[-1]["response"] == to_response(make_completion(""), REQUEST)
    assert Response.model_validate(events[-1]["response"]).output_text == ""


def test_an_error_is_the_last_event_and_has_no_number() -> None:
    *made, last = stream([make_completion_events("Bon", "jour")[0], ERROR])
    assert [event["type"] for event in made] == STREAM[:5]
    assert last == ERROR
