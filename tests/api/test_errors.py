import logging

import pytest
from fastapi.testclient import TestClient

from server.api.errors import ERRORS, describe_error
from server.core import errors
from tests.conftest import AppFactory


def subclasses(kind: type[errors.IcalignError]) -> set[type[errors.IcalignError]]:
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


def test_the_table_is_complete() -> None:
    assert subclasses(errors.IcalignError) - {errors.IcalignError, errors.RequestError} == set(ERRORS)


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (errors.InvalidRequestError("wrong", param="n"), 400, "invalid_value", "n"),
        (errors.UnknownProfileError("x", ["y"], param="model"), 404, "profile_not_found", "model"),
        (errors.NotOfferedError("/x"), 501, "not_offered", None),
        (errors.EngineUnavailableError("gone"), 503, "engine_unavailable", None),
        (errors.EngineTimeoutError("slow"), 504, "engine_timeout", None),
        (errors.EngineError("odd"), 502, "engine_error", None),
    ],
)
def test_an_error_has_its_status_and_openais_shape(
    error: errors.IcalignError, status: int, code: str, param: str | None
) -> None:
    found, body = describe_error(error, request_id="r")
    assert found == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["message"], body["error"]["code"], body["error"]["param"]) == (str(error), code, param)


@pytest.mark.parametrize("error", [ValueError("the secret"), errors.ConfigurationError("the secret")])
def test_a_server_fault_is_logged_and_its_text_withheld(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status, body = describe_error(error, request_id="trace-1")
    assert status == 500
    assert "secret" not in str(body)
    assert "trace-1" in str(body)
    assert "trace-1" in caplog.text
    assert "the secret" in caplog.text


BUDGET = "alignment.budget_tokens"
DEEP = b"[" * 260 + b"]" * 260
DEEPER = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "param"),
    [
        ("GET", "/nowhere", b"", 404, None),
        ("GET", "/v1/chat/completions", b"", 405, None),
        ("POST", "/v1/chat/completions", b"{", 400, None),
        ("POST", "/v1/chat/completions", b"[]", 400, None),
        ("POST", "/v1/chat/completions", b"{}", 400, "messages"),
        ("POST", "/v1/alignment/render", b'{"messages": 1}', 400, "messages"),
        ("POST", "/v1/alignment/retrieve", b"{}", 400, "text"),
        ("POST", "/v1/alignment/retrieve", b'{"text": "x", "count": 0}', 400, "count"),
        ("POST", "/v1/alignment/retrieve", b"{", 400, None),
        ("POST", "/v1/alignment/retrieve", b'{"text": "x", "alignment": {"profile": "no"}}', 404, "alignment.profile"),
        ("POST", "/v1/alignment/retrieve", b'{"text": "x", "alignment": {"profile": "off"}}', 400, "alignment.profile"),
        ("POST", "/v1/chat/completions", b'{"model": {"a": 1}}', 400, "model"),
        ("POST", "/v1/chat/completions", b'{"alignment": {"budget_tokens": "1%s"}}' % (b"0" * 30), 400, BUDGET),
        (
            "POST",
            "/v1/alignment/render",
            b'{"messages": [{"role": "user", "content": "x"}], "tools": %s}' % DEEP,
            400,
            None,
        ),
        ("POST", "/v1/chat/completions", b'{"messages": [{"role": "user"}], "tools": %s}' % DEEPER, 400, None),
        ("POST", "/v1/completions", b'{"alignment": {"profile": "default"}, "q": NaN}', 400, None),
        ("GET", "/v1/alignment/profiles?detail=perhaps", b"", 400, "query.detail"),
        ("GET", "/v1/models/nobody", b"", 404, "model"),
        ("GET", "/version", b"", 501, None),
    ],
)
def test_every_path_answers_errors_in_one_shape(
    make_app: AppFactory, method: str, path: str, content: bytes, status: int, param: str | None
) -> None:
    with TestClient(make_app()) as client:
        response = client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["message"]
    assert response.headers["x-alignment-trace-id"].startswith("trace-")


LARGE = [b"x" * 2000]


@pytest.mark.parametrize("path", ["/ping", "/version", "/v1/chat/completions"])
def test_a_body_over_the_limit_is_refused_wherever_it_is_read(make_app: AppFactory, path: str) -> None:
    with TestClient(make_app(max_body_bytes=1024)) as client:
        method = "GET" if path == "/version" else "POST"
        response = client.request(method, path, content=LARGE, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_a_body_that_nobody_reads_is_no_failure(make_app: AppFactory) -> None:
    with TestClient(make_app(max_body_bytes=1024)) as client:
        assert client.request("GET", "/v1/models", content=LARGE).status_code == 200
