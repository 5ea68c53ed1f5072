from pathlib import Path
from shutil import copytree

import pytest

from server.core.errors import PromptFilesError
from server.core.types import Rendering
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copytree(PROMPTS, tmp_path / "prompts")
    return tmp_path / "prompts"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_shipped_profiles_load() -> None:
    profiles = load_profiles(PROMPTS)
    assert {name: profile.rendering for name, profile in profiles.items()} == {
        "default": Rendering.CHAT,
        "base": Rendering.COMPLETION,
        "company": Rendering.CHAT,
        "company-base": Rendering.COMPLETION,
        "public-service": Rendering.CHAT,
        "public-service-base": Rendering.COMPLETION,
        "off": Rendering.NONE,
    }


def test_a_version_follows_content_and_nothing_else(folder: Path) -> None:
    before = load_profiles(PROMPTS)
    assert load_profiles(folder)["default"].version == before["default"].version
    edit(folder / "constitutions" / "general.yaml", "Answer the question", "Answer each question")
    after = load_profiles(folder)
    assert after["default"].version != before["default"].version
    assert after["off"].version == before["off"].version


def test_a_comment_changes_no_version(folder: Path) -> None:
    edit(folder / "profiles" / "default.yaml", "id: default", "# a remark\nid: default")
    assert load_profiles(folder)["default"].version == load_profiles(PROMPTS)["default"].version


def test_pinned_demonstrations_are_not_retrieved(folder: Path) -> None:
    edit(folder / "profiles" / "default.yaml", "pinned: []", "pinned: [maths-bun-boxes]")
    profile = load_profiles(folder)["default"]
    assert [item.id for item in profile.pinned] == ["maths-bun-boxes"]
    assert "maths-bun-boxes" not in {item.id for item in profile.demonstrations}


@pytest.mark.parametrize(
    ("old", "new", "line_of", "words"),
    [
        ("constitution: general", "constitution: generol", "constitution: generol", "there is no 'generol'"),
        ("template: chat", "template: chatt", "template: chatt", "there is no 'chatt'"),
        ("pinned: []", "pinned: [nobody]", "pinned:", "there is no 'nobody'"),
        ("[everyday, code", "[everyday, cod", "demonstrations: [", "there is no 'cod'"),
        ("id: default", "id: another", "id: another", "must be the file's name, 'default'"),
        ("num_demonstrations: ", "num_demonstration: ", "num_demonstration:", "Extra inputs"),
        ("    elevated:", "    elevatd:", "elevatd:", "'low', 'elevated' or 'high'"),
        ("rendering: chat", "rendering: none", "# For models", "takes no other fields"),
    ],
)
def test_a_profile_that_names_what_is_not_there_is_found(
    folder: Path, old: str, new: str, line_of: str, words: str
) -> None:
    path = folder / "profiles" / "default.yaml"
    edit(path, old, new)
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    lines = path.read_text("utf-8").splitlines()
    expected = next(number for number, line in enumerate(lines, 1) if line_of in line)
    (finding,) = [finding for finding in caught.value.findings if finding.path == "profiles/default.yaml"]
    assert finding.line in {expected, expected + 1}
    assert words in finding.message


def test_an_id_used_twice_and_a_missing_contrast_are_found(folder: Path) -> None:
    edit(folder / "demonstrations" / "maths.yaml", "id: maths-bun-boxes", "id: code-python-chunks")
    edit(folder / "demonstrations" / "harm-weapons.yaml", "contrast: ", "contrast: no-")
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    messages = [str(finding) for finding in caught.value.findings]
    assert any("'code-python-chunks' is used twice" in message for message in messages)
    assert any("contrast: there is no 'no-safety" in message for message in messages)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pinned: []", "pinned: [maths-bun-boxes, maths-bun-boxes]", "twice"),
        ("low: {benign: 4", "low: {benign: -4", "greater than or equal to 0"),
        ("pinned: []", "sampling: {stop: 2026-01-01}", "sampling"),
        ("pinned: []", "sampling: {stream: true}", "sampling cannot set stream"),
        ("pinned: []", "? [a]\n: b", "keys must be text"),
    ],
)
def test_values_that_make_no_sense_are_found(folder: Path, old: str, new: str, words: str) -> None:
    edit(folder / "profiles" / "default.yaml", old, new)
    with pytest.raises(PromptFilesError, match=words):
        load_profiles(folder)


def test_files_that_would_not_be_read_are_found(folder: Path) -> None:
    (folder / "profiles" / "mine.yml").write_text("id: mine")
    (folder / "templates" / "mine.jinja").write_bytes(b"\xff")
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    assert [finding.path for finding in caught.value.findings] == ["profiles/mine.yml", "templates/mine.jinja"]


def test_a_folder_without_profiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptFilesError, match="no folder profiles/"):
        load_profiles(tmp_path)
    (tmp_path / "profiles").mkdir()
    with pytest.raises(PromptFilesError, match="holds no profile"):
        load_profiles(tmp_path)
