"""The OpenAPI document: says what each endpoint takes and answers, since its handler reads and writes bytes.

FastAPI makes the document from the handlers' signatures; what these do not tell is put in here, from one table.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from server.api import schemas as s
from server.api.admission import OPEN_PATHS
from server.api.alignment import RetrieveRequest
from server.api.errors import ERRORS
from server.api.passthrough import GENERATING_PATHS
from server.core.types import Body

_JSON = "application/json"
# Statuses of errors: of what watches the server, of all that a key may be asked for, and of all the rest.
_WATCHED = frozenset({500, 503})
_LISTS = _WATCHED | {401, 429}
_OWN = _LISTS | {400, 403, 404, 413}
_ENGINE = _OWN | {501, 502, 504}


@dataclass(frozen=True)
class Operation:
    """What one endpoint takes and answers: types, None for no body. `event` is what one event of a stream holds."""

    request: Any = None
    answer: Any = None
    event: Any = None
    request_type: str = _JSON
    answer_type: str = _JSON
    errors: frozenset[int] = _ENGINE


_ANY_FORM = s.ChatBody | s.BatchBody | s.CompletionBody | s.ResponsesBody | s.MessagesBody
_FORM = Operation(dict[str, Any], s.EngineAnswer, s.EngineAnswer, request_type="multipart/form-data")
_ENGINE_PATHS = (
    *("/v2/embed", "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"),
    "/v1/moderations",
)

OPERATIONS: Mapping[str, Operation] = {
    "POST /v1/chat/completions": Operation(s.ChatBody, s.ChatAnswer, s.ChatChunk),
    "POST /v1/chat/completions/batch": Operation(s.BatchBody, s.ChatAnswer),
    "POST /v1/completions": Operation(s.CompletionBody, s.CompletionAnswer, s.CompletionAnswer),
    "POST /v1/responses": Operation(s.ResponsesBody, s.ResponsesAnswer, s.NamedEvent),
    "GET /v1/responses/{response_id}": Operation(None, s.ResponsesAnswer, s.NamedEvent),
    "POST /v1/responses/{response_id}/cancel": Operation(None, s.ResponsesAnswer),
    "POST /v1/messages": Operation(s.MessagesBody, s.MessagesAnswer, s.NamedEvent),
    "POST /v1/messages/count_tokens": Operation(s.CountTokensBody, s.CountTokensAnswer),
    "GET /v1/models": Operation(None, s.ModelList, errors=_LISTS | {501, 502, 504}),
    "GET /v1/models/{model}": Operation(None, s.ModelEntry, errors=_LISTS | {404, 501, 502, 504}),
    "POST /v1/alignment/render": Operation(_ANY_FORM, s.RenderAnswer),
    "POST /v1/alignment/retrieve": Operation(RetrieveRequest, s.RetrieveAnswer, errors=_OWN),
    "GET /v1/alignment/profiles": Operation(None, s.ProfileList, errors=_LISTS | {400}),
    "GET /health": Operation(None, s.StatusAnswer, errors=_WATCHED),
    "GET /ready": Operation(None, s.StatusAnswer, errors=_WATCHED | {502, 504}),
    "POST /tokenize": Operation(s.TokenizeBody, s.TokenizeAnswer),
    "POST /detokenize": Operation(s.DetokenizeBody, s.DetokenizeAnswer),
    "POST /v1/embeddings": Operation(s.EmbeddingsBody, s.EmbeddingsAnswer),
    "POST /v1/audio/speech": Operation(s.EngineBody, bytes, answer_type="audio/*"),
    "POST /v1/audio/transcriptions": _FORM,
    "POST /v1/audio/translations": _FORM,
    "GET /metrics": Operation(None, str, answer_type="text/plain", errors=_WATCHED),
    "GET /ping": Operation(),
    "POST /ping": Operation(),
    "GET /version": Operation(None, s.EngineAnswer),
    "GET /load": Operation(None, s.EngineAnswer),
    "GET /tokenizer_info": Operation(None, s.EngineAnswer),
    **{f"POST {path}": Operation(s.EngineBody, s.EngineAnswer) for path in _ENGINE_PATHS},
    **{f"POST {path}": Operation(s.EngineBody, s.EngineAnswer, s.EngineAnswer) for path in GENERATING_PATHS},
}

_STATUSES: Mapping[str, str] = {
    "400": "The request is at fault; `param` names the field.",
    "401": "A key is needed, or this one is not known.",
    "403": "The key does not allow this profile.",
    "404": "There is no such profile or model.",
    "413": "The body is too large.",
    "415": "The body is not declared to be JSON.",
    "429": "The server is busy.",
    "500": "The server failed; its log tells more under the trace id.",
    "501": "The engine has no such endpoint.",
    "502": "The engine's answer could not be read.",
    "503": "The engine cannot be reached, or the server starts or stops.",
    "504": "The upstream was silent for too long.",
    "default": "Any other error of the engine, with its status.",
}

_HEADERS: Mapping[str, Body] = {
    "X-Alignment-Trace-Id": {
        "description": "Names the request in the log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^trace-[0-9a-f]{24}$"},
    },
    "X-Alignment-Profile": {
        "description": "What was applied, as `id@version`, once it is known.",
        "schema": {"type": "string", "pattern": "^[^@]+@[0-9a-f]{12}$"},
    },
}
_PROFILE_PARAMETER: Body = {
    "name": "X-Alignment-Profile",
    "in": "header",
    "description": "Chooses a profile, as `alignment.profile` and the end of a model's name do.",
    "schema": {"type": "string"},
}
_KEYS: Mapping[str, Body] = {
    "Bearer": {"type": "http", "scheme": "bearer"},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def describe(app: FastAPI, routes: Iterable[APIRoute], *, has_keys: bool) -> None:
    """Have the document of `app` tell of the bodies of `routes`, which it has; the rest of it stays as it is."""
    generate = app.openapi
    described = [(route, method) for route in routes if route.include_in_schema for method in route.methods]

    def openapi() -> Body:
        if app.openapi_schema is None:
            document, schemas = generate(), _Schemas()
            for route, method in described:
                entry = document["paths"][route.path_format][method.lower()]
                _complete(entry, OPERATIONS[f"{method} {route.path_format}"], route, schemas)
                if has_keys and route.path not in OPEN_PATHS:
                    entry["security"] = [{name: []} for name in _KEYS]
            _add_components(document, schemas, has_keys=has_keys)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


class _Schemas:
    """The JSON schemas of all types in the table, which share their definitions."""

    def __init__(self) -> None:
        found = (part for item in OPERATIONS.values() for part in (item.request, item.answer, item.event))
        types = {*found, s.ErrorAnswer, s.MessagesErrorAnswer} - {None}
        by_key, shared = TypeAdapter.json_schemas(
            [(kind, "validation", TypeAdapter(kind)) for kind in types],
            ref_template="#/components/schemas/{model}",
            schema_generator=_Terse,
        )
        self.definitions: Body = shared["$defs"]
        self._by_type = {kind: schema for (kind, _), schema in by_key.items()}

    def of(self, kind: Any) -> Body:
        return self._by_type[kind]


class _Terse(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """No: they would repeat the names of fields."""
        return False

    def default_schema(self, schema: Any) -> Body:
        """Without defaults that say no more than that a field may be left out."""
        found = super().default_schema(schema)
        return {name: value for name, value in found.items() if (name, value) != ("default", None)}


def _complete(entry: Body, operation: Operation, route: APIRoute, schemas: _Schemas) -> None:
    """Fill in `entry`, one operation of the document."""
    entry["parameters"] = [*entry.get("parameters", ()), *_parameters(entry, operation, route)]
    if operation.request is not None:
        content = {operation.request_type: {"schema": schemas.of(operation.request)}}
        entry["requestBody"] = {"required": True, "content": content}
    errors = {
        status: f"#/components/responses/{_error_name(route.path, status)}" for status in _errors(operation, route)
    }
    entry["responses"] = {
        "200": _success(operation, schemas),
        **{status: {"$ref": ref} for status, ref in errors.items()},
    }


def _parameters(entry: Body, operation: Operation, route: APIRoute) -> Iterator[Body]:
    """The parameters that no handler takes by name."""
    known = {parameter["name"] for parameter in entry.get("parameters", ())}
    for name in route.param_convertors.keys() - known:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if 403 in operation.errors:  # which is where a profile can be chosen
        yield _PROFILE_PARAMETER


def _errors(operation: Operation, route: APIRoute) -> list[str]:
    found = operation.errors - ({401, 403, 429} if route.path in OPEN_PATHS else set())
    if operation.request is not None and operation.request_type == _JSON:
        found |= {415}
    return [*map(str, sorted(found)), *(["default"] if 502 in found else [])]


def _success(operation: Operation, schemas: _Schemas) -> Body:
    content: Body = {}
    if operation.answer is not None:
        content[operation.answer_type] = {"schema": schemas.of(operation.answer)}
    if operation.event is not None:
        # OpenAPI 3.1 has no word for what events hold.
        text = {"type": "string", "description": "Server-sent events, where the request says `stream`."}
        content["text/event-stream"] = {"schema": text, "x-event-schema": schemas.of(operation.event)}
    return {"description": "The answer.", "headers": _references("headers", _HEADERS), "content": content}


def _add_components(document: Body, schemas: _Schemas, *, has_keys: bool) -> None:
    components = document.setdefault("components", {})
    if b"HTTPValidationError" not in orjson.dumps(document["paths"]):
        for name in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(name, None)
    components["schemas"] = components.get("schemas", {}) | schemas.definitions
    components["headers"] = components.get("headers", {}) | _HEADERS
    components["responses"] = components.get("responses", {}) | {
        _error_name(path, status): _error(path, status, schemas)
        for path in ("", "/v1/messages")
        for status in _STATUSES
    }
    if has_keys:
        components["securitySchemes"] = components.get("securitySchemes", {}) | _KEYS


def _error_name(path: str, status: str) -> str:
    return f"{'Messages' if path.startswith('/v1/messages') else ''}Error{status.capitalize()}"


def _error(path: str, status: str, schemas: _Schemas) -> Body:
    codes = sorted({row.code for row in ERRORS.values() if str(row.status) == status})
    return {
        "description": _STATUSES[status] + (f" Codes: {', '.join(codes)}." if codes else ""),
        "headers": _references("headers", _HEADERS),
        "content": {_JSON: {"schema": schemas.of(s.MessagesErrorAnswer if path else s.ErrorAnswer)}},
    }


def _references(kind: str, names: Iterable[str]) -> Body:
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}
