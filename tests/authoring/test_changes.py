from pathlib import Path
from shutil import copytree

import pytest

from server.authoring.changes import Fate, PromptChange, compare_files, compare_prompts, diff_texts
from server.authoring.requests import form_for, request_of, with_choice
from server.core.errors import PromptFilesError
from server.retrieval.base import Embedder
from tests.authoring.test_rendered import renderer_of

CHAT = form_for("/v1/chat/completions")


@pytest.fixture
def edited(light_prompts: Path, tmp_path: Path) -> Path:
    return copytree(light_prompts, tmp_path / "prompts")


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def compare(before: Path, edited: Path, embedder: Embedder, text: str, profile: str = "default") -> PromptChange:
    body = with_choice(request_of(text, CHAT), profile, {})
    (change,) = compare_prompts(renderer_of(before, embedder), renderer_of(edited, embedder), CHAT, [body])
    return change


def test_equal_folders_have_no_changes(light_prompts: Path, edited: Path, light_embedder: Embedder) -> None:
    assert compare_files(light_prompts, edited) == []
    assert not compare(light_prompts, edited, light_embedder, "How do I bake bread?").is_changed


def test_comments_are_no_change(light_prompts: Path, edited: Path) -> None:
    edit(edited, "profiles/default.yaml", "id: default", "# A comment\nid: default")
    assert compare_files(light_prompts, edited) == []


def test_changes_are_told_by_item_and_field(light_prompts: Path, edited: Path) -> None:
    edit(edited, "profiles/base.yaml", "temperature: 0.7", "temperature: 0.9")
    edit(edited, "demonstrations/everyday.yaml", "Parboil them", "Boil them")
    edit(edited, "constitutions/general.yaml", "weight: 2.0", "weight: 3.0")
    edit(edited, "templates/chat.jinja", "You are a helpful", "You are a kind")
    edit(edited, "risk/small-talk.yaml", "  - Hello!\n", "")
    found = {
        (change.kind, change.id): [field.name for field in change.fields]
        for change in compare_files(light_prompts, edited)
    }
    assert found == {
        ("profile", "base"): ["sampling.temperature"],
        ("demonstration", "everyday-crisp-roast-potatoes"): ["assistant"],
        ("principle", "general/answer-the-need"): ["weight"],
        ("risk", "small-talk"): ["harmless"],
        ("template", "chat"): ["text"],
    }


def test_what_is_added_and_removed_is_told(light_prompts: Path, edited: Path) -> None:
    edit(edited, "constitutions/general.yaml", "id: answer-the-need", "id: answer-what-is-needed")
    found = {(change.kind, change.id): change.fate for change in compare_files(light_prompts, edited)}
    assert found == {
        ("constitution", "general"): Fate.CHANGED,
        ("principle", "general/answer-the-need"): Fate.REMOVED,
        ("principle", "general/answer-what-is-needed"): Fate.ADDED,
    }


def test_faulty_files_cannot_be_compared(light_prompts: Path, edited: Path) -> None:
    edit(edited, "constitutions/general.yaml", "weight: 2.0", "weight: two")
    with pytest.raises(PromptFilesError, match="weight"):
        compare_files(light_prompts, edited)


def test_a_prompt_changes_with_what_is_in_it_and_only_then(
    light_prompts: Path, edited: Path, light_embedder: Embedder
) -> None:
    edit(edited, "demonstrations/everyday.yaml", "Parboil them", "Boil them")
    potatoes = compare(light_prompts, edited, light_embedder, "Why do my roast potatoes never go crispy?")
    assert potatoes.is_changed
    assert potatoes.before is not None
    assert potatoes.after is not None
    assert potatoes.before.demonstrations[-1].id == potatoes.after.demonstrations[-1].id
    assert not compare(light_prompts, edited, light_embedder, "python function to split a list into chunks").is_changed


def test_sampling_is_part_of_what_engines_get(light_prompts: Path, edited: Path, light_embedder: Embedder) -> None:
    edit(edited, "profiles/base.yaml", "temperature: 0.7", "temperature: 0.9")
    assert compare(light_prompts, edited, light_embedder, "Hello", "base").is_changed
    assert not compare(light_prompts, edited, light_embedder, "Hello", "default").is_changed


def test_a_profile_that_only_one_has_is_a_change(light_prompts: Path, edited: Path, light_embedder: Embedder) -> None:
    for name in ("company", "company-base"):
        (edited / "profiles" / f"{name}.yaml").unlink()
    change = compare(light_prompts, edited, light_embedder, "Hello", "company")
    assert change.is_changed
    assert (change.after, change.before_fault) == (None, "")
    assert "There is no profile 'company'" in change.after_fault
    assert not compare(light_prompts, edited, light_embedder, "Hello", "nobody").is_changed


def test_differences_of_texts_are_lines() -> None:
    assert diff_texts("a\nb\nc", "a\nx\nc", context=0) == ["@@ -2 +2 @@", "-b", "+x"]
    assert diff_texts("-- a", "", context=0)[1:] == ["--- a"]
