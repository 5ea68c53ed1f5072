"""JSON Schema of each kind of prompt file, by which editors complete and check while one types."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from server.profiles.schema import (
    BankFile,
    ConstitutionFile,
    DemonstrationEntry,
    ProfileFile,
    PromptTestFile,
    RiskFile,
)

Schema = dict[str, Any]

FOLDER = "schemas"
"""Where they lie in a prompts folder; files name them by `# yaml-language-server: $schema=../schemas/KIND.json`."""

# A profile's own, whatever it extends.
_OWN_FIELDS = ("id", "description")


def schemas() -> Mapping[str, Schema]:
    """The schema of every kind, by kind. `demonstration` is a line of a demonstrations file that is JSON Lines."""
    return {kind: {**make(), "title": f"icalign {kind}"} for kind, make in _KINDS.items()}


def schema_text(schema: Schema) -> str:
    """As published: indented, with a line break at the end."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def write_schemas(directory: Path) -> list[Path]:
    """Publish all in the prompts folder `directory`; gives the files."""
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    paths = {folder / f"{kind}.json": schema_text(schema) for kind, schema in schemas().items()}
    for path, text in paths.items():
        path.write_text(text, "utf-8")
    return list(paths)


class _Generator(GenerateJsonSchema):
    """Without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's own
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """Where keys have a form, no others are allowed; pydantic's own leaves that open."""
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made


def _schema_of(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(schema_generator=_Generator)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _profile_schema() -> Schema:
    """A profile that extends another repeats nothing of it, and takes fields out by null."""
    schema = _schema_of(ProfileFile)
    required = [name for name in schema["required"] if name not in _OWN_FIELDS]
    schema["$defs"]["RetrievalEntry"] = _removable(schema["$defs"]["RetrievalEntry"])
    own = {name: schema["properties"][name] for name in _OWN_FIELDS}
    return {
        **_removable(schema),
        "properties": {**_removable(schema)["properties"], **own},
        "required": list(_OWN_FIELDS),
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": required},
    }


def _removable(schema: Schema) -> Schema:
    """`schema` of a mapping whose values may also be null, as may theirs."""
    changed = dict(schema)
    for name in ("properties", "patternProperties"):
        if name in schema:
            changed[name] = {key: _or_null(value) for key, value in schema[name].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        changed["additionalProperties"] = _or_null(schema["additionalProperties"])
    return changed


def _or_null(field: Schema) -> Schema:
    """`field` or null; what describes it stays outside, where editors look."""
    shown: Schema = {name: field[name] for name in ("description", "default") if name in field}
    kinds = field.get("anyOf") or [{name: value for name, value in field.items() if name not in shown}]
    nullable = [_removable(kind) for kind in kinds if kind != {"type": "null"}]
    return {**shown, "anyOf": [*nullable, {"type": "null"}]}


_KINDS: Mapping[str, Callable[[], Schema]] = {
    "profile": _profile_schema,
    "constitution": lambda: _schema_of(ConstitutionFile),
    "demonstrations": lambda: _schema_of(BankFile),
    "demonstration": lambda: _schema_of(DemonstrationEntry),
    "risk": lambda: _schema_of(RiskFile),
    "tests": lambda: _schema_of(PromptTestFile),
}
