"""Runs what the README tells people to run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SHOWN_URL = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The commands of console blocks: what follows `$ `, with its continued lines."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)", "".join(blocks("console")), re.MULTILINE)


def run(command: list[str]) -> str:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_there_are_commands_to_run() -> None:
    assert sum("curl" in command for command in commands()) >= 3


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[:60])
def test_a_shown_command_answers(command: str, smollm2_url: str) -> None:
    output = run(["bash", "-o", "pipefail", "-c", command.replace(SHOWN_URL, smollm2_url)])
    assert output.strip()
    assert '"error"' not in output


@pytest.mark.parametrize("program", blocks("python"))
def test_a_shown_program_runs(program: str, smollm2_url: str) -> None:
    output = run([sys.executable, "-c", program.replace(SHOWN_URL, smollm2_url)])
    assert output.strip()


def test_shown_make_targets_exist() -> None:
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"serve", "test"} <= targets
    for target in targets:
        run(["make", "--dry-run", target])
