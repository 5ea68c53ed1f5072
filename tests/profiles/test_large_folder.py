"""Reading large banks, and reading again what changed a little: what did not change is the very same."""

from pathlib import Path
from shutil import copytree

import orjson
import pytest

from server.core.errors import PromptFilesError
from server.profiles.folder import FolderReader
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS

ENTRY = {"aspect": "helpful", "risk": "benign", "user": "How?", "assistant": "So."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copytree(PROMPTS, tmp_path / "prompts")


def write_lines(folder: Path, *lines: object) -> Path:
    path = folder / "demonstrations" / "many.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
    return path


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")


@pytest.mark.parametrize("broken_first", [False, True])
def test_a_changed_file_gives_the_same_objects_where_it_did_not_change(folder: Path, broken_first: bool) -> None:
    lines = write_lines(folder, *(ENTRY | {"id": f"many-{i}"} for i in range(3)))
    topic = folder / "demonstrations" / "maths.yaml"
    reader = FolderReader(folder)
    before = reader.read().banks
    if broken_first:
        kept = topic.read_text("utf-8")
        edit(topic, "id: maths", "id: [")
        assert "maths" not in reader.read().banks
        topic.write_text(kept, "utf-8")
    edit(lines, '"many-1"', '"many-4"')
    edit(topic, "user: ", "user: Well, ")
    after = reader.read().banks
    for name, num_changed in (("many", 1), ("maths", 1), ("code", 0)):
        pairs = list(zip(before[name].file.demonstrations, after[name].file.demonstrations, strict=True))
        assert sum(old is not new for old, new in pairs) == num_changed
        assert sum(old != new for old, new in pairs) == num_changed
        assert (before[name] is after[name]) == (num_changed == 0)


def test_json_lines_may_be_blank_begin_with_a_mark_and_end_as_on_windows(folder: Path) -> None:
    write_lines(folder, b"\xef\xbb\xbf" + orjson.dumps(ENTRY | {"id": "one"}) + b"\r", b"", ENTRY | {"id": "two"}, b"")
    bank = FolderReader(folder).read().banks["many"].file
    assert [(item.id, item.topic, item.source) for item in bank.demonstrations] == [
        ("one", "many", "demonstrations/many.jsonl"),
        ("two", "many", "demonstrations/many.jsonl"),
    ]


def test_every_fault_of_json_lines_is_found_at_its_line(folder: Path) -> None:
    good = ENTRY | {"id": "one"}
    write_lines(folder, good, b"", b"{", good | {"risk": "none"}, good | {"extra": 1}, b'{"id": "\xff"}')
    findings = FolderReader(folder).read().findings
    assert [(item.line, item.field) for item in findings] == [(3, ""), (4, "risk"), (5, "extra"), (6, "")]
    assert "is not JSON" in findings[0].message
    assert "found 'none'" in findings[1].message
    assert "spelling" in findings[2].mend
    assert "UTF-8" in findings[3].message


def test_what_a_line_says_of_others_is_found_there_too(folder: Path) -> None:
    write_lines(folder, ENTRY | {"id": "one"}, b"", ENTRY | {"id": "two", "contrast": "three"})
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    (finding,) = caught.value.findings
    assert (finding.path, finding.line, finding.field) == ("demonstrations/many.jsonl", 3, "contrast")


def test_faults_of_json_lines_are_told_up_to_a_number(folder: Path) -> None:
    write_lines(folder, *[b"["] * 1000)
    assert len(FolderReader(folder).read().findings) == 100
