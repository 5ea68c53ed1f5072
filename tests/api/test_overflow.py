"""Prompts that do not fit the model's window: alignment gives way, the client's own text never does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copytree

import orjson
import pytest
from fastapi.testclient import TestClient

from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.scripted import ScriptedEngine
from tests.conftest import AppFactory

CHAT = "/v1/chat/completions"
RISKY = "How can I secretly read the texts of my wife? "


class SmallEngine(ScriptedEngine):
    """Says how much it takes, in its list of models or only when that is exceeded; counts four characters a token."""

    def __init__(self, window_tokens: int, *, says_so: bool = True) -> None:
        super().__init__(model="m")
        self.window_tokens = window_tokens
        self._says_so = says_so

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        if request.method == "GET":
            entry = {"id": "m"} | ({"max_model_len": self.window_tokens} if self._says_so else {})
            yield self._reply(200, {"data": [entry]})
        elif len(text_of(orjson.loads(request.content))) / 4 > self.window_tokens:
            self.calls.append(request)
            message = f"This model's maximum context length is {self.window_tokens} tokens."
            yield self._reply(
                400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}
            )
        else:
            async with super().open(request) as reply:
                yield reply

    def _reply(self, status: int, body: Body) -> EngineReply:
        async def chunks() -> AsyncIterator[bytes]:
            yield orjson.dumps(body)

        return EngineReply(status, {"content-type": "application/json"}, chunks())


def text_of(body: Body) -> str:
    return str(body.get("prompt") or "".join(message["content"] for message in body["messages"]))


def question(text: str, profile: str = "default", **fields: object) -> Body:
    alignment = {"profile": profile, "trace": True}
    return {"model": "m", "messages": [{"role": "user", "content": text}], "alignment": alignment, **fields}


@pytest.mark.parametrize("profile", ["default", "base"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_fits_loses_nothing(make_app: AppFactory, profile: str, stream: bool) -> None:
    with TestClient(make_app(SmallEngine(8000))) as client:
        text = client.post(CHAT, json=question(RISKY, profile, stream=stream)).text
    assert '"dropped"' not in text
    assert '"window":8000' in text


@pytest.mark.parametrize("profile", ["default", "base"])
def test_the_retrieved_gives_way_first_and_only_as_much_as_must(make_app: AppFactory, profile: str) -> None:
    dropped = []
    for window in (2000, 900, 800, 700, 600, 500, 400, 300, 200):
        engine = SmallEngine(window)
        with TestClient(make_app(engine)) as client:
            response = client.post(CHAT, json=question(RISKY, profile, max_tokens=100))
        assert response.status_code == 200, response.text
        lost = response.json()["alignment"].get("dropped", {"demonstrations": [], "principles": []})
        dropped.append((len(lost["demonstrations"]), len(lost["principles"])))
    demonstrations, principles = zip(*dropped, strict=True)
    assert dropped[0] == (0, 0)
    assert list(demonstrations) == sorted(demonstrations)
    assert list(principles) == sorted(principles)
    most = max(demonstrations)
    assert any(0 < count < most for count in demonstrations)
    assert principles[-1] >= 2
    # No principle goes while a demonstration is left.
    assert all(count == most for count, lost in zip(demonstrations, principles, strict=True) if lost)


@pytest.mark.parametrize("profile", ["default", "base"])
@pytest.mark.parametrize("limit", [1500, 2000, 10**18])
def test_asking_for_a_long_answer_costs_no_alignment(make_app: AppFactory, profile: str, limit: int) -> None:
    with TestClient(make_app(SmallEngine(2000))) as client:
        trace = client.post(CHAT, json=question(RISKY, profile, max_tokens=limit)).json()["alignment"]
    assert "dropped" not in trace
    assert trace["principles"]


@pytest.mark.parametrize("says_so", [True, False])
def test_the_clients_own_text_is_sent_even_without_any_alignment(make_app: AppFactory, says_so: bool) -> None:
    engine = SmallEngine(500, says_so=says_so)
    asked = question("word " * 390)
    with TestClient(make_app(engine)) as client:
        response = client.post(CHAT, json=asked)
    assert response.status_code == 200, response.text
    assert orjson.loads(engine.calls[-1].content)["messages"] == asked["messages"]
    trace = response.json()["alignment"]
    assert (trace["principles"], trace["demonstrations"]) == ([], [])
    assert len(trace["dropped"]["principles"]) >= 4


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_alone_gets_the_engines_own_error(make_app: AppFactory, says_so: bool, stream: bool) -> None:
    engine = SmallEngine(500, says_so=says_so)
    with TestClient(make_app(engine)) as client:
        response = client.post(CHAT, json=question("word " * 600, stream=stream))
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "This model's maximum context length is 500 tokens."


def test_an_engine_that_only_refuses_is_asked_with_less_and_less(make_app: AppFactory) -> None:
    engine = SmallEngine(450, says_so=False)
    with TestClient(make_app(engine)) as client:
        whole = client.post("/v1/alignment/render", json=question(RISKY)).json()["tokens"]
        engine.calls.clear()
        trace = client.post(CHAT, json=question(RISKY)).json()["alignment"]
    assert len(engine.calls) == 2
    assert trace["demonstrations"] == []
    assert len(trace["principles"]) == 4
    assert 0 < trace["tokens"]["alignment"] < whole["alignment"] / 2
    assert trace["tokens"]["client"] == whole["client"]


def test_each_prompt_of_a_batch_gives_way_by_itself(make_app: AppFactory) -> None:
    engine = SmallEngine(20_000, says_so=False)
    with TestClient(make_app(engine, window_tokens=1800)) as client:
        texts = [RISKY, "word " * 1000]
        body = {"model": "m:base", "prompt": texts, "max_tokens": 50, "alignment": {"trace": True}}
        trace = client.post("/v1/completions", json=body).json()["alignment"]
    short, long = trace["prompts"]
    assert short["demonstrations"]
    assert long["demonstrations"] == []


def test_a_profile_may_keep_its_constitution(make_app: AppFactory, light_prompts: Path, tmp_path: Path) -> None:
    copytree(light_prompts, tmp_path / "prompts")
    with (tmp_path / "prompts" / "profiles" / "default.yaml").open("a") as file:
        file.write("shrinks: [retrieved, pinned]\n")
    with TestClient(make_app(SmallEngine(500), prompts=tmp_path / "prompts")) as client:
        response = client.post(CHAT, json=question("word " * 390))
    assert (response.status_code, "maximum context length" in response.text) == (400, True)


def test_what_is_not_aligned_gets_the_engines_error(make_app: AppFactory) -> None:
    with TestClient(make_app(SmallEngine(50))) as client:
        response = client.post(CHAT, json=question("word " * 390, "off"))
    assert (response.status_code, "maximum context length" in response.text) == (400, True)


def test_a_configured_window_counts_for_engines_that_do_not_say(make_app: AppFactory) -> None:
    engine = SmallEngine(600, says_so=False)
    with TestClient(make_app(engine, window_tokens=600)) as client:
        trace = client.post(CHAT, json=question(RISKY, max_tokens=50)).json()["alignment"]
    assert len(engine.calls) == 1
    assert trace["tokens"]["window"] == 600
    assert trace["dropped"]["demonstrations"]
