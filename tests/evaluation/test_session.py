from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from fastapi import FastAPI

from server.core.errors import EngineError, EngineUnavailableError
from server.core.types import Body
from server.engine.base import Engine
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from server.evaluation.arms import Arm, patched_arm, with_arms
from server.evaluation.datasets import Message
from server.evaluation.session import HttpSession, default_profile_at, first_model
from tests.conftest import AppFactory
from tests.evaluation.engines import TokenEngine

pytestmark = pytest.mark.anyio
OURS = Arm("ours", "ours", "default")
BASE = Arm("base", "base", "base")
OFF = Arm("off", "off", "off")
QUESTION = (Message("user", "What makes bread rise?"),)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://icalign")


@asynccontextmanager
async def session_of(make_app: AppFactory, engine: Engine) -> AsyncIterator[HttpSession]:
    app = make_app(engine)
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield HttpSession({None: client}, await first_model(client), retry_s=0)


async def test_an_answer_comes_with_what_was_applied(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("Yeast.")])
    async with session_of(make_app, engine) as session:
        answer = await session.chat(OURS, QUESTION, max_tokens=9)
    assert (answer.text, answer.finish_reason, answer.num_calls) == ("Yeast.", "stop", 1)
    assert answer.completion_tokens == 1
    assert answer.cached_tokens is None
    assert answer.latency_ms > 0
    applied = answer.applied
    assert applied.profile.startswith("default@")
    assert applied.route == "low"
    assert applied.risk is not None
    assert len(applied.chosen) == 4
    assert applied.principles
    assert applied.tokens["alignment"] > 100
    assert applied.aligning_ms is not None
    sent = orjson.loads(engine.calls[-1].content)
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0, 9, "scripted")
    assert len(sent["messages"]) == 10


async def test_off_applies_nothing(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    async with session_of(make_app, engine) as session:
        answer = await session.chat(OFF, QUESTION, temperature=0.5)
    assert answer.applied.profile.startswith("off@")
    assert answer.applied.chosen == answer.applied.principles == ()
    sent = orjson.loads(engine.calls[-1].content)
    assert sent["messages"] == [{"role": "user", "content": "What makes bread rise?"}]
    assert sent["temperature"] == 0.5


async def test_each_embedder_has_a_client(make_app: AppFactory) -> None:
    own, chance = ScriptedEngine([ScriptedAnswer("own")]), ScriptedEngine([ScriptedAnswer("chance")])
    async with client_of(make_app(own)) as one, client_of(make_app(chance)) as other:
        session = HttpSession({None: one, "chance": other}, "scripted")
        assert (await session.chat(OURS, QUESTION)).text == "own"
        assert (await session.chat(Arm("random", "", "default", embedder="chance"), QUESTION)).text == "chance"


async def test_arms_share_no_prefix_cache_where_the_engine_can_tell_them_apart(make_app: AppFactory) -> None:
    async with client_of(make_app(engine := ScriptedEngine())) as client:
        for salts_cache in (True, False):
            session = HttpSession({None: client}, "scripted", salts_cache=salts_cache)
            for arm in (OURS, BASE):
                await session.chat(arm, QUESTION)
    sent = [orjson.loads(call.content) for call in engine.calls]
    assert [body.get("cache_salt") for body in sent] == ["ours", "base", None, None]


@pytest.mark.parametrize("arm", [OURS, BASE, OFF], ids=lambda arm: arm.id)
async def test_a_continuation_is_weighed_after_the_aligned_prompt(make_app: AppFactory, arm: Arm) -> None:
    engine = TokenEngine()
    async with session_of(make_app, engine) as session:
        found = await session.logprob(arm, QUESTION, "Yeast makes gas.")
    assert (found.total, found.num_tokens) == (-(5 + 5 + 4), 3)
    assert found.applied.profile.startswith(f"{arm.profile}@")
    weighed = orjson.loads(engine.calls[-1].content)
    assert engine.calls[-1].path == "/v1/completions"
    assert weighed["prompt"][-3:] == [5, 5, 4]
    assert weighed["prompt"][0] == 0
    assert (weighed["prompt"][-4] == 0) is (arm is not BASE)
    assert (len(weighed["prompt"]) > 100) is (arm is not OFF)


@pytest.mark.parametrize("arm", [OURS, BASE], ids=lambda arm: arm.id)
async def test_no_opening_stands_before_a_continuation(make_app: AppFactory, light_prompts: Path, arm: Arm) -> None:
    words = dict.fromkeys(("low", "elevated", "high"), "I am sorry, but")
    opened = patched_arm("opened", "opened", arm.profile, {"openings": words})
    with with_arms(light_prompts, [opened]) as prompts:
        app = make_app(engine := TokenEngine(), prompts=prompts)
        async with app.router.lifespan_context(app), client_of(app) as client:
            session = HttpSession({None: client}, await first_model(client), retry_s=0)
            assert "I am sorry, but" in str((await session.render(opened, QUESTION))["body"])
            found = [await session.logprob(item, QUESTION, "Yeast makes gas.") for item in (arm, opened)]
    assert found[0].total == found[1].total
    weighed = [orjson.loads(call.content)["prompt"] for call in engine.calls if call.path == "/v1/completions"]
    assert weighed[0] == weighed[1]


async def test_an_engine_without_log_probabilities_is_told(make_app: AppFactory) -> None:
    async with session_of(make_app, ScriptedEngine()) as session:
        with pytest.raises(EngineError, match=r"needs an engine that has vLLM's /tokenize and prompt_logprobs.*501"):
            await session.logprob(OURS, QUESTION, "Yeast.")


@asynccontextmanager
async def failing(statuses: list[int], body: Body) -> AsyncIterator[HttpSession]:
    """A server that answers with each status in turn, the last of them for ever; 0 breaks the connection."""

    def answer(request: httpx.Request) -> httpx.Response:
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, json=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x") as client:
        yield HttpSession({None: client}, "m", retry_s=0)


GOOD: Body = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("statuses", [[429, 502, 503, 0, 200], [200]])
async def test_what_may_pass_is_tried_again(statuses: list[int]) -> None:
    async with failing(statuses, GOOD) as session:
        assert (await session.chat(OURS, QUESTION)).text == "Yes."


@pytest.mark.parametrize(
    ("statuses", "body", "kind", "words"),
    [
        ([503] * 5 + [200], GOOD, EngineUnavailableError, "answered 503"),
        ([0], GOOD, EngineUnavailableError, "ConnectError: refused"),
        ([400, 200], {"error": "why"}, EngineError, "answered 400: .*why"),
        ([200], {"choices": []}, EngineError, "gave no chat completion"),
    ],
)
async def test_what_does_not_pass_is_told(statuses: list[int], body: Body, kind: type[EngineError], words: str) -> None:
    async with failing(statuses, body) as session:
        with pytest.raises(kind, match=words):
            await session.chat(OURS, QUESTION)


async def test_the_server_names_its_default_profile(make_app: AppFactory) -> None:
    async with client_of(make_app(default_profile="base")) as client:
        assert await default_profile_at(client) == "base"


async def test_a_server_that_is_no_icalign_is_told() -> None:
    async with client_of(FastAPI()) as client:
        with pytest.raises(EngineError, match="answered 404"):
            await default_profile_at(client)
        with pytest.raises(EngineError, match="answered 404"):
            await first_model(client)
