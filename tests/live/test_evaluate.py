"""`icalign eval` on the real engine: what it measures is what clients get."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from server.evaluation.arms import Arm
from server.evaluation.datasets import Message
from server.evaluation.rows import read_rows
from server.evaluation.session import CHAT, HttpSession
from tests.live.conftest import GEMMA, SMOLLM2

QUESTION = "Name three uses of baking soda."
ROOT = Path(__file__).parents[2]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "profile"), [(SMOLLM2, "default"), (SMOLLM2, "base"), (SMOLLM2, "off"), (GEMMA, "off")]
)
async def test_likelihood_is_what_the_answer_itself_tells(
    model: str, profile: str, request: pytest.FixtureRequest
) -> None:
    """The log probabilities of a greedy answer's tokens, as they come with it, against those of the same text."""
    url = request.getfixturevalue("smollm2_url" if model == SMOLLM2 else "gemma_url")
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": f"{model}:{profile}", "messages": messages, "max_tokens": 12, "temperature": 0, "logprobs": True}
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        sampling = {"frequency_penalty": 0, "repetition_penalty": 1, "top_p": 1, "top_k": -1}
        (choice,) = (await client.post(CHAT, json={**body, **sampling})).json()["choices"]
        tokens = choice["logprobs"]["content"]
        session = HttpSession({None: client}, model)
        arm = Arm(profile, profile, profile)
        found = await session.logprob(arm, [Message("user", QUESTION)], choice["message"]["content"])
        other = await session.logprob(arm, [Message("user", QUESTION)], " Zebra piano of the of the mud.")
    assert found.num_tokens == len(tokens)
    # Rounding in bfloat16 depends on what is computed together.
    assert found.total == pytest.approx(sum(token["logprob"] for token in tokens), abs=0.1 * len(tokens))
    assert found.total / found.num_tokens > other.total / other.num_tokens + 1


def test_an_engine_run_here_is_measured(tmp_path: Path) -> None:
    flags = ["--model", SMOLLM2, "--enforce-eager", "--max-model-len", "4096", "--out", str(tmp_path / "run"), "--json"]
    asked = ["--set", "fixture_harmless", "--measure", "frontier", "--count", "2", "--max-tokens", "16"]
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
