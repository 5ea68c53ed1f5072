"""Folders that are made once and kept, whoever makes them first."""

from pathlib import Path


def put_folder(made: Path, target: Path) -> None:
    """Move the folder `made` to `target`, unless another process has put its own there in the meantime."""
    try:
        made.replace(target)
    except OSError:
        if not target.is_dir():
            raise
