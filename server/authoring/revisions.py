"""Prompts folders to compare: as they lie on the disk, or as git has them at a revision."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from server.core.errors import ConfigurationError


@contextmanager
def prompts_at(name: str, working: Path) -> Iterator[Path]:
    """The prompts folder that `name` means: a folder, or the one at `working` at a git revision.

    A revision's files are there until the context is left. Raises ConfigurationError.
    """
    if name and Path(name).is_dir():
        yield Path(name)
        return
    commit = _commit(name, working)
    root = Path(_git(working, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    inside = _git(working, "rev-parse", "--show-prefix").decode().rstrip("\n")
    with TemporaryDirectory(prefix="icalign-") as scratch:
        archive = _git(root, "archive", "--format=tar", f"{commit}:{inside}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(scratch, filter="data")
        yield Path(scratch)


def _commit(name: str, working: Path) -> str:
    try:
        return (
            _git(working, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode().strip()
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{name!r} is neither a folder nor a git revision of {working}: {error}") from error


def _git(working: Path, *arguments: str) -> bytes:
    try:
        result = subprocess.run(  # noqa: S603 - no shell, and the revision is marked as one
            ["git", "-C", str(working), *arguments],  # noqa: S607 - git as the person's path has it
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ConfigurationError(f"git cannot be run: {error}") from error
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()
        raise ConfigurationError(said or f"git {arguments[0]} found nothing.")
    return result.stdout
