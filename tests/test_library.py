"""The prompts in force, without a server; with one in tests/api/test_live_prompts.py."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from server.core.errors import ConfigurationError
from server.library import Library
from server.profiles.store import ProfileStore
from server.retrieval.base import Embedder
from server.retrieval.retriever import Retrievers
from tests.conftest import PROMPTS
from tests.marked import NUM_FAULTS, MarkedPrompts, replace_text

Load = Callable[..., Library]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prompts folder with profile `default` on a small bank, and `off`."""
    folder = tmp_path / "prompts"
    for kind, name in (
        ("profiles", "default.yaml"),
        ("profiles", "off.yaml"),
        ("constitutions", "general.yaml"),
        ("templates", "chat.jinja"),
        ("demonstrations", "maths.yaml"),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / name).write_bytes((PROMPTS / kind / name).read_bytes())
    text = (folder / "profiles" / "default.yaml").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(("demonstrations:", "risk:"))]
    (folder / "profiles" / "default.yaml").write_text("\n".join([*lines, "demonstrations: [maths]", ""]), "utf-8")
    return folder


@pytest.fixture
def load(light_embedder: Embedder) -> Load:
    def build(folder: Path, *, required: Mapping[str, str] | None = None, num_versions: int = 8) -> Library:
        retrievers = Retrievers(light_embedder, len)
        store = ProfileStore(folder)
        return Library(store, retrievers, default_profile="default", required=required, num_versions=num_versions)

    return build


def settle(library: Library) -> None:
    """What the watcher does while nothing changes."""
    library.refresh()
    library.refresh()


def describe(folder: Path, text: str) -> None:
    """Give profile `default` a description, which is part of its version."""
    path = folder / "profiles" / "default.yaml"
    lines = path.read_text("utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("description:")]
    path.write_text("\n".join([*kept, f"description: {text}", ""]), "utf-8")


def version_of(library: Library) -> str:
    return library.current.profiles.current["default"].version


def test_a_change_replaces_the_whole_and_leaves_what_was_taken(folder: Path, load: Load) -> None:
    library = load(folder)
    before = library.current
    describe(folder, "Another.")
    settle(library)
    after = library.current
    assert after.version != before.version
    assert after.profiles.current["default"].description == "Another."
    assert before.profiles.current["default"].description != "Another."
    assert (library.num_changes, library.num_failures) == (1, 0)
    assert after.loaded_at_s >= before.loaded_at_s


def test_without_a_change_nothing_is_loaded(folder: Path, load: Load) -> None:
    library = load(folder)
    before = library.current
    for _ in range(3):
        library.refresh()
    assert library.current is before


def test_an_edit_is_left_alone_while_it_is_written(folder: Path, load: Load) -> None:
    """An editor that empties a file before it writes it, or writes it in pieces, each of which makes sense."""
    library = load(folder)
    path = folder / "templates" / "chat.jinja"
    text = path.read_text("utf-8")
    library.refresh()
    for length in (0, 200, 400):
        path.write_text(text[:length].rpartition("{%")[0], "utf-8")
        library.refresh()
        assert library.current.profiles.current["default"].template == text
    path.write_text(f"{text}The end.\n", "utf-8")
    settle(library)
    assert library.current.profiles.current["default"].template == f"{text}The end.\n"
    assert (library.num_changes, library.num_failures) == (1, 0)


def test_an_editor_that_renames_over_the_file_is_followed(folder: Path, load: Load) -> None:
    library = load(folder)
    path, fresh = folder / "templates" / "chat.jinja", folder / "templates" / ".chat.jinja.swp"
    stat = path.stat()
    fresh.write_text(path.read_text("utf-8").replace("helpful", "HELPFUL"), "utf-8")
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh.replace(path)
    settle(library)
    assert "HELPFUL" in library.current.profiles.current["default"].template


def test_a_change_of_the_same_length_and_time_is_seen(folder: Path, load: Load) -> None:
    library = load(folder)
    path = folder / "templates" / "chat.jinja"
    stat, text = path.stat(), path.read_text("utf-8")
    path.write_text(text.replace("helpful", "HELPFUL"), "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    settle(library)
    assert "HELPFUL" in library.current.profiles.current["default"].template


def test_an_invalid_change_leaves_the_old_version_and_shows(
    folder: Path, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    library = load(folder)
    before = library.current
    replace_text(folder / "profiles" / "default.yaml", "template: chat", "template: chatt")
    settle(library)
    assert (library.current.version, library.current.profiles) == (before.version, before.profiles)
    (finding,) = library.current.findings
    assert (finding.path, finding.field) == ("profiles/default.yaml", "template")
    assert (library.num_changes, library.num_failures) == (0, 1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"{before.version} stay in force:\nprofiles/default.yaml:" in record.message
    settle(library)
    assert library.num_failures == 1, "what is known to be faulty is not loaded again"
    replace_text(folder / "profiles" / "default.yaml", "template: chatt", "template: chat")
    settle(library)
    assert (library.current.version, library.current.findings) == (before.version, ())
    assert (library.num_changes, library.num_failures) == (0, 1)


def test_a_faulty_file_is_told_once_and_not_by_whoever_names_it(folder: Path, load: Load) -> None:
    library = load(folder)
    (folder / "constitutions" / "general.yaml").write_text("id: [", "utf-8")
    (folder / "demonstrations" / "maths.yaml").write_text("id: maths", "utf-8")
    (folder / "templates" / "chat.jinja").write_bytes(b"\xff")
    settle(library)
    paths = {finding.path for finding in library.current.findings}
    assert paths == {"constitutions/general.yaml", "demonstrations/maths.yaml", "templates/chat.jinja"}


@pytest.mark.parametrize("fault", range(NUM_FAULTS))
def test_every_kind_of_fault_is_refused(tmp_path: Path, load: Load, fault: int) -> None:
    prompts = MarkedPrompts(tmp_path)
    library = load(prompts.folder)
    before = library.current.version
    prompts.edit(1, fault=fault)
    settle(library)
    assert library.current.version == before
    assert library.current.findings
    prompts.edit(2)
    settle(library)
    assert (library.current.findings, library.num_changes, library.num_failures) == ((), 1, 1)


def test_a_template_that_would_fail_on_some_request_is_an_invalid_change(folder: Path, load: Load) -> None:
    library = load(folder)
    (folder / "templates" / "chat.jinja").write_text("{{ demonstrations[0].user }}", "utf-8")
    settle(library)
    assert [finding.path for finding in library.current.findings] == ["templates/chat.jinja"]


def test_a_file_that_only_disturbs_is_noticed_when_it_comes_and_goes(folder: Path, load: Load) -> None:
    library = load(folder)
    misnamed = folder / "profiles" / "mine.yml"
    misnamed.write_text("id: mine", "utf-8")
    settle(library)
    assert [finding.path for finding in library.current.findings] == ["profiles/mine.yml"]
    misnamed.unlink()
    settle(library)
    assert not library.current.findings


def test_a_deleted_folder_is_told_once_and_comes_back(folder: Path, load: Load) -> None:
    library = load(folder)
    before = library.current
    away = folder.rename(folder.with_name("away"))
    for _ in range(4):
        library.refresh()
    assert library.current.version == before.version
    assert "no folder profiles/" in library.current.findings[0].message
    assert library.num_failures == 1
    copytree(away, folder)
    settle(library)
    assert (library.current.version, library.current.findings) == (before.version, ())
    rmtree(folder)
    settle(library)
    assert library.num_failures == 2


def test_what_nobody_foresaw_leaves_the_old_version_too(
    folder: Path, load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = load(folder)
    before = library.current

    def fail(*_: object) -> None:
        raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(Retrievers, "build", fail)
        describe(folder, "Another.")
        settle(library)
    assert library.current.version == before.version
    assert "MemoryError('no more')" in library.current.findings[0].message
    assert any(record.exc_info for record in caplog.records)
    describe(folder, "A third.")
    settle(library)
    assert library.current.profiles.current["default"].description == "A third."


def test_rolling_the_files_back_brings_the_same_version_back(folder: Path, load: Load) -> None:
    library = load(folder)
    versions = [version_of(library)]
    for text in ("One.", "Two."):
        describe(folder, text)
        settle(library)
        versions.append(version_of(library))
    assert library.current.profiles.versions("default") == [f"default@{version}" for version in versions]
    describe(folder, "One.")
    settle(library)
    assert version_of(library) == versions[1]
    in_order = [versions[0], versions[2], versions[1]]
    assert library.current.profiles.versions("default") == [f"default@{version}" for version in in_order]


def test_the_version_in_force_is_listed_last_whatever_came_back(folder: Path, load: Load) -> None:
    library = load(folder)
    first = version_of(library)
    describe(folder, "Another.")
    settle(library)
    describe(folder, "General assistant for chat models, with retrieved demonstrations as turns.")
    replace_text(folder / "profiles" / "off.yaml", "description: ", "description: Indeed, ")
    settle(library)
    assert version_of(library) == first
    assert library.current.profiles.versions("default")[-1] == f"default@{first}"


def test_versions_beyond_the_number_kept_are_forgotten(folder: Path, load: Load) -> None:
    library = load(folder, num_versions=3)
    versions = [version_of(library)]
    taken = library.current
    for number in range(4):
        describe(folder, f"Number {number}.")
        settle(library)
        versions.append(version_of(library))
    current = library.current
    assert [name.partition("@")[2] for name in current.profiles.versions("default")] == versions[-3:]
    assert {name for name in current.ready if name.startswith("default@")} == {f"default@{v}" for v in versions[-3:]}
    assert current.profiles.get(f"default@{versions[0]}") is None
    assert f"default@{versions[0]}" in taken.ready, "whoever took it keeps it"


def test_one_version_alone_can_be_kept(folder: Path, load: Load) -> None:
    library = load(folder, num_versions=1)
    describe(folder, "Another.")
    settle(library)
    assert library.current.profiles.versions("default") == [f"default@{version_of(library)}"]


@pytest.mark.parametrize(("name", "wanted_by"), [("default", "default_profile"), ("off", "api_keys: key 'school'")])
def test_a_profile_that_is_needed_cannot_be_removed(folder: Path, load: Load, name: str, wanted_by: str) -> None:
    library = load(folder, required={"off": "api_keys: key 'school'"})
    before = library.current.version
    (folder / "profiles" / f"{name}.yaml").unlink()
    settle(library)
    assert library.current.version == before
    assert [finding.message.startswith(f"{wanted_by}: there is no profile") for finding in library.current.findings]


def test_a_profile_that_nobody_needs_can_be_removed_and_is_kept_by_version(folder: Path, load: Load) -> None:
    library = load(folder)
    label = library.current.profiles.current["off"].label
    (folder / "profiles" / "off.yaml").unlink()
    settle(library)
    assert "off" not in library.current.profiles.current
    assert library.current.profiles.get(label) is not None


def test_what_does_not_start_is_refused_at_once(folder: Path, load: Load) -> None:
    with pytest.raises(ConfigurationError, match="api_keys: key 'x': there is no profile 'nobody'; there are default"):
        load(folder, required={"nobody": "api_keys: key 'x'"})


def test_only_what_an_edit_changed_is_embedded(tmp_path: Path, light_embedder: Embedder) -> None:
    class Recording:
        name, dimension = light_embedder.name, light_embedder.dimension
        num_texts = 0

        def embed(self, texts: list[str]) -> object:
            self.num_texts += len(texts)
            return light_embedder.embed(texts)

    prompts, recording = MarkedPrompts(tmp_path), Recording()
    retrievers = Retrievers(recording, len)  # type: ignore[arg-type]  # a partial stand-in
    library = Library(ProfileStore(prompts.folder), retrievers, default_profile="default")
    recording.num_texts = 0
    prompts.edit(1)
    settle(library)
    assert (library.num_changes, recording.num_texts) == (1, 0), "a pinned principle and an answer: nothing to compare"
    replace_text(prompts.folder / "demonstrations" / "marked.yaml", "What is the number?", "Which number is it?")
    settle(library)
    assert (library.num_changes, recording.num_texts) == (2, 1)
