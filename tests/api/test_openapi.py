"""The OpenAPI document, and whether the server keeps to it. `make fuzz` tries for longer than the tests do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from schemathesis.schemas import BaseSchema

from server.api.description import OPERATIONS
from server.app import api_routes
from server.core.types import Body
from server.engine.scripted import ScriptedEngine
from tests.conftest import AppFactory
from tests.servers import served

KEYS = [{"name": "all", "key": "k"}, {"name": "bound", "key": "b", "profiles": ["off"]}]
PROFILES = ["default", "base", "off"]
ALIGNED = "^/v1/(chat|completions|responses$|messages$|alignment/re)"
ALIKE = "score$|rerank$|^/(v2/embed|classify|pooling)$"  # to /v1/moderations
FUZZ_S = os.environ.get("FUZZ_S")
"""How long to try each profile, at random; else some cases that are always the same."""
JSON = {"content-type": "application/json"}


def operations(app: FastAPI) -> list[tuple[str, str, Body]]:
    return [
        (method.upper(), path, entry) for path, item in app.openapi()["paths"].items() for method, entry in item.items()
    ]


def schema_of(app: FastAPI) -> BaseSchema:
    return schemathesis.openapi.from_dict(app.openapi())


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if "$ref" in value else set()
        return found.union(*map(references, value.values()))
    return set[str]().union(*map(references, value)) if isinstance(value, list) else set()


def check_document(document: Body) -> None:
    """Raise where it is not valid, or refers to what is not in it."""
    schemathesis.openapi.from_dict(document).validate()
    for reference in references(document):
        found = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]


def test_the_document_is_valid(make_app: AppFactory) -> None:
    check_document(make_app(api_keys=KEYS).openapi())


def test_every_endpoint_has_its_bodies_described(make_app: AppFactory) -> None:
    app = make_app()
    routes = {
        f"{method} {route.path_format}"
        for route in api_routes(app)
        if route.include_in_schema
        for method in route.methods
    }
    described = operations(app)
    assert {f"{method} {path}" for method, path, _ in described} == routes == set(OPERATIONS)
    for method, path, entry in described:
        assert ("requestBody" in entry) == (method == "POST" and not path.endswith(("/ping", "/cancel"))), path
        assert entry["responses"]["200"]["content"] or path == "/ping"
        assert "422" not in entry["responses"]
        assert {"500", "503"} <= set(entry["responses"])
    assert "HTTPValidationError" not in app.openapi()["components"]["schemas"]


def test_requests_and_answers_show_the_field_alignment(make_app: AppFactory) -> None:
    schemas = make_app().openapi()["components"]["schemas"]
    for name in ("ChatBody", "BatchBody", "CompletionBody", "ResponsesBody", "MessagesBody", "TokenizeBody"):
        assert references(schemas[name]["properties"]["alignment"]) == {"#/components/schemas/AlignmentOptions"}
    for name in ("ChatAnswer", "ChatChunk", "CompletionAnswer", "ResponsesAnswer", "MessagesAnswer", "NamedEvent"):
        assert references(schemas[name]["properties"]["alignment"]) == {"#/components/schemas/AlignmentTrace"}


def test_keys_are_described_where_they_are_asked_for(make_app: AppFactory) -> None:
    without, with_keys = make_app(), make_app(api_keys=KEYS)
    assert "securitySchemes" not in without.openapi()["components"]
    assert not any("security" in entry for _, _, entry in operations(without))
    open_paths = {path for _, path, entry in operations(with_keys) if "security" not in entry}
    assert open_paths == {"/health", "/ready", "/ping", "/metrics", "/version"}


@pytest.mark.parametrize(
    ("path", "profile"),
    [*(("/v1/chat/completions", profile) for profile in PROFILES), ("/v1/completions", "base")],
)
def test_the_events_of_a_stream_are_as_described(make_app: AppFactory, path: str, profile: str) -> None:
    app = make_app()
    content = app.openapi()["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    validator = Draft202012Validator({**content["x-event-schema"], "components": app.openapi()["components"]})
    asked = {"stream": True, "stream_options": {"include_usage": True}, "model": f"m:{profile}"}
    prompt = {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
    with TestClient(app) as client:
        response = client.post(path, json={**asked, **prompt, "alignment": {"trace": True}})
    *frames, done, _ = response.text.split("\n\n")
    assert done == "data: [DONE]"
    assert len(frames) > 3
    for frame in frames:
        validator.validate(orjson.loads(frame.removeprefix("data: ")))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}),
    ],
)
def test_a_base_models_named_answers_are_as_described(make_app: AppFactory, path: str, fields: Body) -> None:
    app = make_app()
    schema = schema_of(app)
    content = app.openapi()["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    validator = Draft202012Validator({**content["x-event-schema"], "components": app.openapi()["components"]})
    asked = {**fields, "model": "m:base", "alignment": {"trace": True}}
    with TestClient(app) as client:
        schema[path]["POST"].validate_response(client.post(path, json=asked))
        *frames, _ = client.post(path, json={**asked, "stream": True}).text.split("\n\n")
    assert len(frames) > 3
    for frame in frames:
        validator.validate(orjson.loads(frame.split("data: ", 1)[1]))


@pytest.mark.parametrize(
    ("headers", "content", "statuses"),
    [
        ({"x-api-key": "k", "content-type": "text/plain"}, b"{}", {200, 400, 404, 415, 501}),
        ({"x-api-key": "k"} | JSON, b"{" + b" " * 2000, {200, 404, 413, 501}),
        (JSON, b"{}", {200, 401, 501}),
        ({"authorization": "Bearer b"} | JSON, b'{"model": "m:default"}', {200, 400, 403, 404, 501}),
        ({"authorization": "Bearer k"} | JSON, b'{"alignment": {"profile": "x"}}', {200, 400, 404, 501}),
        ({"authorization": "Bearer k", "x-alignment-profile": "x"} | JSON, b"{}", {200, 400, 404, 501}),
    ],
    ids=["text", "large", "no key", "bound key", "body", "header"],
)
def test_refusals_are_as_described(
    make_app: AppFactory, headers: dict[str, str], content: bytes, statuses: set[int]
) -> None:
    app = make_app(api_keys=KEYS, max_body_bytes=1024)
    schema, found = schema_of(app), set()
    with TestClient(app) as client:
        for method, path, entry in operations(app):
            url = path.replace("{", "").replace("}", "")
            response = client.request(method, url, content=content, headers=headers)
            assert str(response.status_code) in entry["responses"], (method, path, response.text)
            schema[path][method].validate_response(response)
            found.add(response.status_code)
            if path.startswith("/v1/messages"):
                assert response.json()["type"] == "error"
    assert found <= statuses


def write_narrow_document(url: str, path: Path) -> None:
    """The document for Schemathesis: without the failures of a server that is unwell, with the profiles that exist."""
    document = httpx.get(f"{url}/openapi.json").json()
    for item in document["paths"].values():
        for entry in item.values():
            for status in ("500", "502", "503", "504", "default"):
                entry["responses"].pop(status, None)
            for parameter in entry["parameters"]:
                if parameter["name"] == "X-Alignment-Profile":
                    parameter["schema"]["enum"] = PROFILES
            if stream := entry["responses"]["200"]["content"].get("text/event-stream"):
                stream["schema"] = event_schema(stream["x-event-schema"])
    document["components"]["schemas"]["AlignmentOptions"]["properties"]["profile"] = {"enum": [*PROFILES, None]}
    path.write_bytes(orjson.dumps(document))


def event_schema(content: Body) -> Body:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    return {"type": "object", "required": ["data"], "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}}}


def extent(profile: str) -> list[str]:
    if FUZZ_S:
        return ["--phases=coverage,fuzzing", f"--max-time={FUZZ_S}", "--max-examples=1000", "--continue-on-failure"]
    few = ["--generation-deterministic", "--no-shrink", "--max-examples=5"]
    if profile == "default":
        return [*few, "--phases=coverage,fuzzing", f"--exclude-path-regex={ALIKE}"]
    return [*few, "--phases=fuzzing", f"--include-path-regex={ALIGNED}"]


@pytest.mark.parametrize("profile", PROFILES)
def test_fuzz(make_app: AppFactory, profile: str, tmp_path: Path) -> None:
    """Whatever is sent, well-formed or not, the answer is one that the document knows, and no failure of ours."""
    document, checks = tmp_path / "openapi.json", "status_code_conformance,content_type_conformance"
    checks += ",response_headers_conformance,response_schema_conformance,unsupported_method"
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", str(document), "--warnings=off"]
    with served(make_app(ScriptedEngine(), default_profile=profile)) as url:
        write_narrow_document(url, document)
        options = [f"--url={url}", f"--checks={checks}", *extent(profile)]
        run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
