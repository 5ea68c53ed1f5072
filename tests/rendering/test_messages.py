import pytest

from server.core.types import Body, Rendering
from server.rendering.messages import query_of, split_system, text_of, with_defaults
from tests.rendering.builders import make_profile


def message(role: str, content: object) -> Body:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (
            [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}],
            "a\nb",
        ),
    ],
)
def test_text_is_what_text_parts_hold(content: object, text: str) -> None:
    assert text_of(message("user", content)) == text


def test_the_query_is_the_last_user_message() -> None:
    messages = [message("user", "one"), message("user", "two"), message("assistant", "three"), message("tool", "four")]
    assert query_of(messages) == "two"
    assert query_of([message("system", "alone")]) == "alone"
    assert query_of([message("user", "one"), message("user", [{"type": "image_url"}])]) == "one"


def test_of_a_long_query_the_ends_count() -> None:
    query = query_of([message("user", "a" * 5000 + "middle" + "z" * 5000)])
    assert len(query) <= 4001
    assert query.startswith("aaa")
    assert query.endswith("zzz")
    assert "middle" not in query


def test_only_leading_system_messages_are_split_off() -> None:
    later = [message("user", "Hi"), message("system", "Late")]
    assert split_system([message("system", "A"), message("developer", "B"), *later]) == ("A\n\nB", later)
    assert split_system(later) == ("", later)


def test_what_is_no_message_is_not_the_systems() -> None:
    item = {"type": "reasoning", "role": "system", "content": 5}
    assert split_system([item]) == ("", [item])


def test_defaults_fill_what_is_missing_or_null() -> None:
    profile = make_profile(Rendering.CHAT)
    assert with_defaults({"temperature": 0, "max_tokens": None}, profile, ["max_tokens"]) == {
        "temperature": 0,
        "max_tokens": 64,
    }


def test_the_answers_limit_has_the_endpoints_name_and_the_clients_value() -> None:
    profile = make_profile(Rendering.CHAT)
    assert with_defaults({}, profile, ["max_output_tokens"])["max_output_tokens"] == 64
    given = {"max_completion_tokens": 5, "temperature": 1}
    assert with_defaults(given, profile, ["max_completion_tokens", "max_tokens"]) == given
