import subprocess
from pathlib import Path

import pytest

from server.authoring.revisions import prompts_at
from server.core.errors import ConfigurationError


def git(folder: Path, *arguments: str) -> None:
    named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def working(tmp_path: Path) -> Path:
    """A prompts folder inside a repository, changed since its one commit."""
    folder = tmp_path / "repository" / "prompts"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "a.yaml").write_text("old")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "One")
    (folder / "profiles" / "a.yaml").write_text("new")
    return folder


def test_a_revision_is_what_git_has(working: Path) -> None:
    with prompts_at("HEAD", working) as directory:
        assert (directory / "profiles" / "a.yaml").read_text() == "old"
    assert not directory.exists()


def test_a_repository_may_be_a_prompts_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "One")
    with prompts_at("HEAD", tmp_path) as directory:
        assert (directory / "a").read_text() == "old"


def test_a_folder_is_itself(working: Path) -> None:
    with prompts_at(str(working), working) as directory:
        assert (directory / "profiles" / "a.yaml").read_text() == "new"


@pytest.mark.parametrize("name", ["nobody", "--output=x", "HEAD~1", ""])
def test_what_is_neither_is_said(working: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is neither a folder nor a git revision"), prompts_at(name, working):
        pass
    assert not Path("x").exists()


def test_prompts_that_a_revision_does_not_have_are_said(working: Path) -> None:
    later = working.parent / "later"
    later.mkdir()
    with pytest.raises(ConfigurationError, match="later"), prompts_at("HEAD", later):
        pass


def test_a_folder_outside_any_repository_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a git repository"), prompts_at("HEAD", tmp_path):
        pass
