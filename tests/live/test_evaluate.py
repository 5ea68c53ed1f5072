"""`icalign eval` on the real engine: what it measures is what clients get."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from server.evaluation.rows import read_rows
from tests.live.asking import check_likelihood
from tests.live.conftest import SMOLLM2

ROOT = Path(__file__).parents[2]


@pytest.mark.anyio
@pytest.mark.parametrize("profile", ["default", "base", "off"])
async def test_likelihood_is_what_the_answer_itself_tells(smollm2_url: str, profile: str) -> None:
    await check_likelihood(smollm2_url, SMOLLM2, profile)


def test_an_engine_run_here_is_measured(tmp_path: Path) -> None:
    flags = ["--model", SMOLLM2, "--enforce-eager", "--max-model-len", "4096", "--out", str(tmp_path / "run"), "--json"]
    asked = [
        "--set",
        "fixture_harmless",
        "--measure",
        "frontier",
        "--count",
        "2",
        "--max-tokens",
        "16",
        "--concurrency",
        "1",
    ]
    arms = ["--arm", "off", "--arm", "random", "--arm", "ours"]
    command = [sys.executable, "-m", "server", "eval", *flags, *asked, *arms]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    shown = json.loads(result.stdout)
    assert (shown["rows"], shown["failed"]) == (6, 0)
    rows = read_rows(tmp_path / "run" / "rows.jsonl").values()
    assert all(row.prompt_tokens and row.cached_tokens is not None for row in rows)
    assert {row.arm for row in rows if row.values["cached"] > 0} & {"random", "ours"}
    assert (tmp_path / "run" / "report.html").is_file()
