from pathlib import Path

import pytest

from server.core.files import put_folder


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "model").write_text(text)
    return folder


def test_a_folder_is_put_where_there_is_none(tmp_path: Path) -> None:
    put_folder(make(tmp_path / "made", "mine"), tmp_path / "target")
    assert (tmp_path / "target" / "model").read_text() == "mine"


def test_what_another_has_put_there_stays(tmp_path: Path) -> None:
    target = make(tmp_path / "target", "another's")
    put_folder(make(tmp_path / "made", "mine"), target)
    assert (target / "model").read_text() == "another's"


def test_what_cannot_be_put_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="target"):
        put_folder(make(tmp_path / "made", "mine"), tmp_path / "missing" / "target")
