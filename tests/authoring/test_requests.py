from pathlib import Path

import pytest

from server.authoring.requests import form_for, parse_scope, read_request, read_requests, request_of, with_choice
from server.core.errors import InvalidRequestError
from server.rendering.forms.registry import FORMS


@pytest.mark.parametrize("path", FORMS)
def test_a_text_becomes_a_conversation_of_any_endpoint(path: str) -> None:
    form = FORMS[path]
    system = None if path == "/v1/completions" else "Be brief."
    (messages,) = form.read(request_of("Hi", form, system=system))
    roles = ["user"] if system is None else ["system", "user"]
    assert [message["role"] for message in messages] == roles
    assert messages[-1]["content"] == "Hi"


def test_what_cannot_be_asked_is_said() -> None:
    with pytest.raises(InvalidRequestError, match="no aligned endpoint '/v1/nothing'"):
        form_for("/v1/nothing")
    with pytest.raises(InvalidRequestError, match="no place for a system text"):
        request_of("Hi", FORMS["/v1/completions"], system="x")
    with pytest.raises(InvalidRequestError, match="dimension=value"):
        parse_scope(["eu"])
    with pytest.raises(InvalidRequestError, match="must be an object"):
        with_choice({"alignment": 5}, "default", {})


def test_a_choice_is_added_to_what_the_request_chooses() -> None:
    body = with_choice({"alignment": {"trace": True}}, "company", parse_scope(["jurisdiction=eu"]))
    assert body["alignment"] == {"trace": True, "profile": "company", "scope": {"jurisdiction": "eu"}}
    assert with_choice({"n": 1}, None, {}) == {"n": 1}


def test_requests_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "requests"
    file.write_text('How are you?\n\n{"messages": [], "n": 2}\n[{"role": "user", "content": "Hi"}]\n')
    texts, body, messages = read_requests(file)
    assert texts["messages"] == [{"role": "user", "content": "How are you?"}]
    assert body["n"] == 2
    assert messages["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not JSON"), ("5", "must hold a request's body"), ('{"input": "x"}', "no messages")],
)
def test_faulty_request_files_are_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "request.json"
    file.write_text(content)
    with pytest.raises(InvalidRequestError, match=f"request.json.*{words}"):
        read_request(file, system="Be brief.")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_request(tmp_path / "nothing")
