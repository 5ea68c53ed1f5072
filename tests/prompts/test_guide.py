"""Runs what the editors' guide tells people to run, in its order, in a copy of the prompts under git."""

import re
import shlex
import subprocess
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from server.cli import app
from tests.conftest import PROMPTS, AppFactory
from tests.servers import served

GUIDE = (PROMPTS / "README.md").read_text("utf-8")
SHOWN_URL = "http://127.0.0.1:8000"


def commands() -> list[str]:
    """What follows `$ ` in console blocks, with its continued lines."""
    blocks = re.findall(r"^```console\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ ((?:.*\\\n)*.*)", "".join(blocks), re.MULTILINE)


def run_in_shell(command: str) -> str:
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_the_commands_of_the_guide_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_app: AppFactory
) -> None:
    folder = tmp_path / "prompts"
    copytree(PROMPTS, folder)
    monkeypatch.setenv("ICALIGN_PROMPTS", str(folder))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Editor")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "editor@example.org")
    run_in_shell("git init -q && git add . && git commit -qm Start")
    outputs: list[str] = []
    with served(make_app(prompts=folder)) as url:
        for command in commands():
            is_ours = command.startswith("icalign ")
            outputs.append(run(command, folder) if is_ours else run_in_shell(command.replace(SHOWN_URL, url)))
    assert sum(bool(output) for output in outputs) >= 5
    assert "x-alignment-profile: default@" in "".join(outputs)
    assert run_in_shell("git status --porcelain; git diff HEAD~2") == ""
    assert len(run_in_shell("git log --oneline").splitlines()) == 3


def run(command: str, folder: Path) -> str:
    """Run a command of ours; what `new` leaves to be written is written, as the guide asks."""
    arguments = shlex.split(command.replace("\\\n", ""))[1:]
    result = CliRunner().invoke(app, arguments)
    # `diff` ends with 1 where prompts differ, as they do here.
    assert result.exit_code == (1 if arguments[0] == "diff" else 0), f"{command}\n{result.output}"
    path = folder / "demonstrations" / "harm-scooters.yaml"
    path.write_text(path.read_text("utf-8").replace("TODO: s", "S"), "utf-8")
    return result.output


def test_the_guide_names_every_folder_of_the_prompts() -> None:
    named = set(re.findall(r"^\| `([a-z]+)/` \|", GUIDE, re.MULTILINE))
    assert named >= {path.name for path in PROMPTS.iterdir() if path.is_dir()} - {"tests"}
