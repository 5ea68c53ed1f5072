from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from server.authoring.schemas import FOLDER, schema_text, schemas, write_schemas
from tests.conftest import PROMPTS

KINDS = {
    "profiles": "profile",
    "constitutions": "constitution",
    "demonstrations": "demonstrations",
    "risk": "risk",
    "tests": "tests",
}
FILES = [path for folder in KINDS for path in sorted((PROMPTS / folder).glob("*.yaml"))]
GOOD: dict[str, Any] = {
    "profile": {"id": "p", "description": "d", "rendering": "none"},
    "constitution": {
        "id": "c",
        "description": "d",
        "source": "s",
        "principles": [{"id": "one", "text": "Be kind.", "aspect": "helpful", "scope": {"place": ["here"]}}],
    },
    "demonstration": {"id": "one", "aspect": "honest", "risk": "benign", "user": "u", "assistant": "a"},
}


def is_valid(kind: str, data: Any) -> bool:
    return bool(Draft202012Validator(schemas()[kind]).is_valid(data))


@pytest.mark.parametrize("kind", schemas())
def test_what_is_published_is_up_to_date(kind: str) -> None:
    schema = schemas()[kind]
    Draft202012Validator.check_schema(schema)
    assert (PROMPTS / FOLDER / f"{kind}.json").read_text("utf-8") == schema_text(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_names_its_schema_and_fits_it(path: Path) -> None:
    kind, text = KINDS[path.parent.name], path.read_text("utf-8")
    assert text.startswith(f"# yaml-language-server: $schema=../{FOLDER}/{kind}.json\n")
    assert is_valid(kind, yaml.safe_load(text))


def test_all_are_published_at_once(tmp_path: Path) -> None:
    assert {path.name for path in write_schemas(tmp_path)} == {path.name for path in (PROMPTS / FOLDER).iterdir()}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("profile", {"retreival": {}}),
        ("profile", {"rendering": "chatty"}),
        ("profile", {"rendering": None, "id": None}),
        ("profile", {"retrieval": {"num_demonstrations": -1}}),
        ("profile", {"retrieval": {"quotas": {"hihg": {}}}}),
        ("constitution", {"principles": []}),
        ("constitution", {"principles": [{"id": "one", "text": "Be kind.", "aspect": "funny"}]}),
        ("constitution", {"principles": [{**GOOD["constitution"]["principles"][0], "scope": {"A place": ["here"]}}]}),
        ("demonstration", {"risk": "high"}),
        ("demonstration", {"history": [{"user": "no answer"}]}),
    ],
)
def test_a_slip_is_found(kind: str, change: dict[str, Any]) -> None:
    assert is_valid(kind, GOOD[kind])
    assert not is_valid(kind, {**GOOD[kind], **change})


def test_a_profile_that_extends_another_repeats_nothing_and_takes_out_by_null() -> None:
    bare = {"id": "p", "description": "d"}
    assert not is_valid("profile", bare)
    assert is_valid("profile", {**bare, "extends": "q"})
    quotas = {"low": None, "high": {"harmful": None}}
    assert is_valid("profile", {**bare, "extends": "q", "retrieval": {"quotas": quotas}, "sampling": None})
    assert not is_valid("profile", {"extends": "q"})


def test_fields_say_what_they_are() -> None:
    for schema in schemas().values():
        nested = [schema, *(item for item in schema.get("$defs", {}).values() if "properties" in item)]
        silent = [name for owner in nested for name, field in owner["properties"].items() if "description" not in field]
        assert set(silent) <= {"user", "assistant"}
