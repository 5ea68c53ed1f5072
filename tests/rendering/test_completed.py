import pytest

from server.core.errors import EngineError
from server.core.types import Body
from server.rendering.completed import Usage, read_completed
from server.rendering.messages_answer import to_message_events
from tests.rendering.builders import make_completion, make_completion_events, mapped

ERROR: Body = {"error": {"message": "The cache is full.", "type": "server_error"}}


def test_a_completion_is_read() -> None:
    answer = read_completed(make_completion("Bonjour", "stop", "END"))
    assert (answer.id, answer.model, answer.created, answer.text) == ("7", "m", 5, "Bonjour")
    assert (answer.finish_reason, answer.stop) == ("stop", "END")
    assert answer.usage == Usage(10, 2, 4, None)


def test_the_token_that_ended_it_is_no_stop_string() -> None:
    assert read_completed(make_completion("Bonjour", "stop", 128001)).stop is None


@pytest.mark.parametrize(
    "answer", [{}, {"choices": None}, {"choices": []}, {"choices": ["x"]}, {"choices": [{"text": "x"}]}]
)
def test_an_answer_that_is_no_completion_is_the_engines_fault(answer: Body) -> None:
    with pytest.raises(EngineError):
        read_completed(answer)
    with pytest.raises(EngineError):
        mapped(lambda events: to_message_events(events, []), [answer])


def test_a_stream_without_events_is_the_engines_fault() -> None:
    with pytest.raises(EngineError):
        mapped(lambda events: to_message_events(events, []), [])


def test_an_error_is_the_last_event() -> None:
    events = [make_completion_events("Bon", "jour")[0], ERROR, *make_completion_events("jour")]
    *made, last = mapped(lambda e: to_message_events(e, []), events)
    assert last == ERROR
    assert [event["type"] for event in made] == ["message_start", "content_block_start", "content_block_delta"]


def test_nothing_comes_before_an_early_error() -> None:
    assert mapped(lambda events: to_message_events(events, []), [ERROR]) == [ERROR]
