"""Reading files, however they are written, linked and replaced."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from server.core.errors import PromptFilesError
from server.profiles.folder import Folder, FolderReader

CONSTITUTION = "id: c\ndescription: d\nsource: s\nprinciples:\n  - {id: p, text: Be kind., aspect: helpful}\n"
BANK = """\
id: b
description: d
source: s
demonstrations:
  - {id: one, aspect: helpful, risk: benign, user: Hello., assistant: Good day.}
"""
RISK = "id: r\ndescription: d\nsource: s\nharmful: [Rob a bank.]\nharmless: [Rob Roy?, Bank holidays?]\n"
LINE = '{"id": "two", "aspect": "honest", "risk": "harmful", "user": "Hé?", "assistant": "No.", "topic": "t"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind, name, text in (
        ("constitutions", "c.yaml", CONSTITUTION),
        ("demonstrations", "b.yaml", BANK),
        ("profiles", "off.yaml", "id: 'off'\ndescription: d\nrendering: none\n"),
        ("risk", "r.yaml", RISK),
        ("templates", "t.jinja", "{{ question }}\n"),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text(text, "utf-8")
    return tmp_path


def read(folder: Path) -> Folder:
    return FolderReader(folder).read()


def has_settled(reader: FolderReader) -> bool:
    """Whether a change is seen once all has been quiet for a while."""
    return [reader.has_settled() for _ in range(2)][-1]


def test_every_file_is_read_by_its_name(folder: Path) -> None:
    found = read(folder)
    assert not found.findings
    assert [found.constitutions.keys(), found.banks.keys(), found.profiles.keys()] == [{"c"}, {"b"}, {"off"}]
    assert found.templates == {"t": "{{ question }}\n"}
    (demonstration,) = found.banks["b"].file.demonstrations
    assert (demonstration.id, demonstration.topic, demonstration.source) == ("one", "b", "s")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf# a remark\r\n" + content.replace(b"\n", b"\r\n"),
        lambda content: content + b"\n\n...\n",
        lambda content: b"%YAML 1.1\n---\n" + content,
    ],
    ids=["BOM", "CRLF", "both", "end mark", "directive"],
)
def test_the_ways_of_editors_change_nothing(folder: Path, change: Callable[[bytes], bytes]) -> None:
    plain = read(folder)
    for kind in ("constitutions", "demonstrations", "profiles"):
        for path in (folder / kind).iterdir():
            path.write_bytes(change(path.read_bytes()))
    found = read(folder)
    assert not found.findings
    assert found.banks["b"].file == plain.banks["b"].file
    assert found.constitutions["c"].file == plain.constitutions["c"].file
    assert found.profiles["off"].data == plain.profiles["off"].data


def test_messages_are_read_under_their_labels(folder: Path) -> None:
    found = read(folder).risk["r"].file
    labelled = [(item.user, item.is_harmful, item.id) for item in found.messages]
    assert labelled == [
        ("Rob a bank.", True, "risk/r"),
        ("Rob Roy?", False, "risk/r"),
        ("Bank holidays?", False, "risk/r"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("id: r", "id: other", 1, "must be the file's name, 'r'"),
        ("harmful: [Rob a bank.]\nharmless: [Rob Roy?, Bank holidays?]\n", "", 1, "needs a message"),
        ("Rob a bank.", "404", 4, "valid string"),
        ("harmful:", "harmfull:", 4, "Extra inputs"),
    ],
)
def test_a_fault_in_a_file_of_messages_has_its_place(folder: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in RISK
    (folder / "risk" / "r.yaml").write_text(RISK.replace(old, new, 1), "utf-8")
    finding = read(folder).findings[0]
    assert (finding.path, finding.line) == ("risk/r.yaml", line)
    assert words in finding.message


def test_line_endings_and_mark_change_no_template(folder: Path) -> None:
    (folder / "templates" / "t.jinja").write_bytes(b"\xef\xbb\xbf{{ question }}\r\n")
    assert read(folder).templates == {"t": "{{ question }}\n"}


def test_lines_of_json_make_a_bank(folder: Path) -> None:
    path = folder / "demonstrations" / "lines.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"\r\n{LINE}\r\n\r\n{LINE.replace('two', 'three')}".encode())
    found = read(folder)
    assert not found.findings
    first, second = found.banks["lines"].file.demonstrations
    assert (first.id, second.id, first.user, first.topic) == ("two", "three", "Hé?", "t")
    assert first.source == "demonstrations/lines.jsonl"


@pytest.mark.parametrize(
    ("content", "line", "field", "words"),
    [
        (f"{LINE}\n\n{LINE[:-1]}", 3, "", "is not JSON"),
        (f"\n{LINE.replace('honest', 'funny')}", 2, "aspect", "'helpful', 'honest'"),
        (f"{LINE}\n" + '"text"', 2, "", "valid dictionary"),
        ("{}", 1, "id", "Field required"),
        (LINE.replace("No.", "\\ud800"), 1, "", "is not JSON"),
        ("[" * 5000, 1, "", "is not JSON"),
    ],
)
def test_a_faulty_line_is_found_by_its_number(folder: Path, content: str, line: int, field: str, words: str) -> None:
    (folder / "demonstrations" / "lines.jsonl").write_text(content, "utf-8")
    finding = read(folder).findings[0]
    assert (finding.path, finding.line, finding.field) == ("demonstrations/lines.jsonl", line, field)
    assert words in finding.message


@pytest.mark.parametrize("line", ["{", "{}"])
def test_of_many_faults_the_first_hundred_are_told(folder: Path, line: str) -> None:
    (folder / "demonstrations" / "lines.jsonl").write_text(f"{line}\n" * 5000, "utf-8")
    assert len(read(folder).findings) == 100


def test_a_digest_follows_what_demonstrations_say(folder: Path) -> None:
    path = folder / "demonstrations" / "b.yaml"
    before = read(folder).banks["b"].file.digest
    path.write_text("# a remark\n" + BANK, "utf-8")
    assert read(folder).banks["b"].file.digest == before
    path.write_text(BANK.replace("Good day.", "Good day!"), "utf-8")
    assert read(folder).banks["b"].file.digest != before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("demonstrations/b.jsonl", LINE.encode(), "has the name of another file, b"),
        ("demonstrations/mine.yml", b"", "is not read; name it .yaml"),
        ("demonstrations/mine.ndjson", b"", "is not read; name it .jsonl"),
        ("templates/mine.j2", b"", "is not read; name it .jinja"),
        ("constitutions/x.yaml", CONSTITUTION.encode(), "must be the file's name, 'x'"),
        ("constitutions/x.yaml", "id: é".encode("latin-1"), "is not UTF-8"),
        ("constitutions/x.yaml", CONSTITUTION.encode("utf-16"), "is not UTF-8"),
        ("profiles/x.yaml", b"- a", "must be a mapping"),
        ("profiles/x.yaml", b"", "must be a mapping"),
    ],
)
def test_what_is_wrong_with_one_file_is_found(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / name).write_bytes(content)
    found = read(folder)
    assert [(finding.path, words in finding.message) for finding in found.findings] == [
        ("demonstrations/b.yaml" if name.endswith("b.jsonl") else name, True)
    ]


@pytest.mark.parametrize("name", ["README.md", ".hidden.yaml", "c.yaml~", "#c.yaml#", "~c.yaml", "c.yaml.bak"])
def test_other_files_are_left_alone(folder: Path, name: str) -> None:
    reader = FolderReader(folder)
    reader.read()
    (folder / "constitutions" / name).write_text("[", "utf-8")
    assert not reader.read().findings
    assert not has_settled(reader)


def test_a_folder_or_a_dead_link_in_place_of_a_file_is_found(folder: Path) -> None:
    (folder / "profiles" / "x.yaml").mkdir()
    (folder / "profiles" / "y.yaml").symlink_to(folder / "nowhere")
    (folder / "profiles" / "z.yaml").symlink_to("z.yaml")
    found = read(folder)
    assert {(finding.path, finding.message) for finding in found.findings} == {
        (f"profiles/{name}.yaml", "is not a file that can be read") for name in "xyz"
    }


def test_a_name_that_is_no_text_is_shown_as_text(folder: Path) -> None:
    for name in (b"\xff.yaml", b"\xfe.yml"):
        Path(os.fsdecode(os.fsencode(folder / "profiles") + b"/" + name)).write_bytes(b"id: x")
    assert [str(finding) for finding in read(folder).findings] == [
        "profiles/\\udcfe.yml: is not read; name it .yaml",
        "profiles/\\udcff.yaml: cannot be read: No such file or directory",
    ]


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    with (folder / "constitutions" / "x.yaml").open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    (finding,) = read(folder).findings
    assert finding.message == "is larger than 16777216 bytes"


def test_what_names_a_faulty_file_can_tell_it_from_a_missing_one(folder: Path) -> None:
    (folder / "constitutions" / "x.yaml").write_text("[", "utf-8")
    (folder / "templates" / "mine.j2").write_text("", "utf-8")
    found = read(folder)
    assert found.may_have("constitutions/x")
    assert found.may_have("templates/m*")
    assert not found.may_have("constitutions/c")
    assert not found.may_have("profiles/x")


def test_no_folder_is_a_finding(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PromptFilesError, match="no folder profiles/"):
            read(path)


def test_files_that_did_not_change_are_not_parsed_anew(folder: Path) -> None:
    reader = FolderReader(folder)
    before = reader.read()
    os.utime(folder / "constitutions" / "c.yaml")
    (folder / "demonstrations" / "b.yaml").write_text(BANK.replace("Hello.", "Hello!"), "utf-8")
    after = reader.read()
    assert after.constitutions["c"] is before.constitutions["c"]
    assert after.profiles["off"] is before.profiles["off"]
    assert after.banks["b"].file.demonstrations[0].user == "Hello!"
    assert reader.read().banks["b"] is after.banks["b"]


def test_a_change_is_told_once_it_has_settled_and_until_it_is_read(folder: Path) -> None:
    reader = FolderReader(folder)
    reader.read()
    assert not has_settled(reader)
    path = folder / "constitutions" / "c.yaml"
    for text in ("", "id: c", CONSTITUTION.replace("kind", "fair")):
        path.write_text(text, "utf-8")
        assert not reader.has_settled(), "it has just changed"
    assert reader.has_settled()
    assert reader.has_settled()
    reader.read()
    assert not has_settled(reader)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "constitutions" / "new.yaml").write_text("", "utf-8"),
        lambda folder: (folder / "constitutions" / "c.yaml").unlink(),
        lambda folder: (folder / "constitutions" / "c.yaml").rename(folder / "constitutions" / "d.yaml"),
        lambda folder: (folder / "constitutions").rename(folder / "gone"),
        lambda folder: (folder / "profiles" / "mine.yml").write_text("", "utf-8"),
        lambda folder: (folder / "profiles" / "mine.yaml").mkdir(),
        lambda folder: (folder / "templates" / "t.jinja").chmod(0o600),
    ],
    ids=["added", "deleted", "renamed", "folder renamed", "misnamed", "made a folder", "rights"],
)
def test_every_kind_of_change_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    reader = FolderReader(folder)
    reader.read()
    change(folder)
    assert has_settled(reader)


def test_a_change_while_files_are_read_makes_them_be_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two files that belong together, one is read before both are changed."""
    first, second = folder / "constitutions" / "c.yaml", folder / "demonstrations" / "b.yaml"
    read_bytes, changes = Path.read_bytes, iter([True])

    def read_and_change(path: Path) -> bytes:
        content = read_bytes(path)
        if path == first and next(changes, False):
            first.write_text(CONSTITUTION.replace("kind", "fair"), "utf-8")
            second.write_text(BANK.replace("Hello.", "Hello!"), "utf-8")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_change)
    found = read(folder)
    assert found.constitutions["c"].file.principles[0].text == "Be fair."
    assert found.banks["b"].file.demonstrations[0].user == "Hello!"


def test_a_file_that_goes_while_it_is_read_is_not_missed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes, path = Path.read_bytes, folder / "constitutions" / "c.yaml"

    def remove_and_read(asked: Path) -> bytes:
        if asked == path:
            path.unlink(missing_ok=True)
        return read_bytes(asked)

    monkeypatch.setattr(Path, "read_bytes", remove_and_read)
    found = read(folder)
    assert (found.constitutions, found.findings) == ({}, [])


def test_links_are_followed_to_what_they_point_at_now(folder: Path, tmp_path: Path) -> None:
    """A mounted ConfigMap: files are links into ..data, which is a link to a folder of one version."""
    mounted = folder / "constitutions"
    (mounted / "c.yaml").unlink()
    for version, text in (("..1", CONSTITUTION), ("..2", CONSTITUTION.replace("kind", "fair"))):
        (mounted / version).mkdir()
        (mounted / version / "c.yaml").write_text(text, "utf-8")
    (mounted / "..data").symlink_to("..1")
    (mounted / "c.yaml").symlink_to("..data/c.yaml")
    reader = FolderReader(folder)
    assert reader.read().constitutions["c"].file.principles[0].text == "Be kind."
    (mounted / "..fresh").symlink_to("..2")
    (mounted / "..fresh").replace(mounted / "..data")
    assert has_settled(reader)
    found = reader.read()
    assert found.constitutions["c"].file.principles[0].text == "Be fair."
    assert not found.findings
