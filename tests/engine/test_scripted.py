from pathlib import Path

import orjson
import pytest

from server.core.errors import ConfigurationError, NotOfferedError
from server.core.types import Body
from server.engine.base import EngineRequest
from server.engine.scripted import ScriptedAnswer, ScriptedEngine, load_script

pytestmark = pytest.mark.anyio

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


async def ask(engine: ScriptedEngine, body: Body, path: str = CHAT) -> tuple[int, bytes]:
    async with engine.open(EngineRequest(path, orjson.dumps(body))) as reply:
        return reply.status, await reply.read()


def question(text: str, **fields: object) -> Body:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


async def test_the_first_answer_that_matches_is_given_and_the_call_recorded() -> None:
    engine = ScriptedEngine([ScriptedAnswer("Rain.", match="weather"), ScriptedAnswer("Other.")])
    for text, answer in (("the weather?", "Rain."), ("what?", "Other.")):
        _, content = await ask(engine, question(text, n=2))
        choices = orjson.loads(content)["choices"]
        assert [choice["message"]["content"] for choice in choices] == [answer, answer]
    assert [orjson.loads(call.content)["messages"][0]["content"] for call in engine.calls] == ["the weather?", "what?"]


async def test_a_message_to_continue_is_not_the_question() -> None:
    engine = ScriptedEngine([ScriptedAnswer(" it rains.", match="weather")])
    body = question("the weather?", continue_final_message=True)
    body["messages"].append({"role": "assistant", "content": "Well,"})
    _, content = await ask(engine, body)
    assert orjson.loads(content)["choices"][0]["message"]["content"] == " it rains."


async def test_completions_are_answered_too() -> None:
    _, content = await ask(
        ScriptedEngine([ScriptedAnswer("Yes.", match="dark")]), {"prompt": "is it dark"}, COMPLETIONS
    )
    assert orjson.loads(content)["choices"][0]["text"] == "Yes."


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_holds_the_same_words_and_usage_on_request(path: str) -> None:
    engine = ScriptedEngine([ScriptedAnswer("One two  three.")])
    body = question("x", prompt="x", stream=True, stream_options={"include_usage": True})
    _, content = await ask(engine, body, path)
    *events, done, _ = content.split(b"\n\n")
    parsed = [orjson.loads(event.removeprefix(b"data: ")) for event in events]
    words = [choice.get("text", choice.get("delta", {}).get("content", "")) for e in parsed for choice in e["choices"]]
    assert ("".join(words), done) == ("One two  three.", b"data: [DONE]")
    assert parsed[-1]["usage"]["completion_tokens"] == 3


async def test_an_error_can_be_scripted() -> None:
    status, content = await ask(ScriptedEngine([ScriptedAnswer("busy", status=429)]), question("x"))
    assert (status, orjson.loads(content)["error"]["message"]) == (429, "busy")


@pytest.mark.parametrize(
    "body",
    [[], "x", {"n": "x"}, {"n": 2_000_000}, {"messages": "abc"}, {"messages": ["a"]}, {"messages": [{"content": [5]}]}],
)
async def test_malformed_requests_are_answered_too(body: object) -> None:
    status, _ = await ask(ScriptedEngine(), body)  # type: ignore[arg-type]
    assert status in {200, 400}


async def test_other_endpoints_are_not_offered() -> None:
    with pytest.raises(NotOfferedError, match="/v1/embeddings"):
        await ask(ScriptedEngine(), {}, "/v1/embeddings")


def test_a_script_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("- text: Hello\n  match: ^hi\n- text: Bye\n  delay_s: 0.5\n")
    assert load_script(path) == [ScriptedAnswer("Hello", match="^hi"), ScriptedAnswer("Bye", delay_s=0.5)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text: x", "must hold a list"),
        ("- txt: x", "answer 0"),
        ("- text: 42", "answer 0"),
        ("- text: x\n  match: '('", "answer 0"),
        ("[", "cannot be read"),
    ],
)
def test_a_bad_script_is_explained(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        load_script(path)


@pytest.mark.parametrize("asked", [{}, {"model": None}, {"model": 1}])
async def test_an_answer_names_the_engines_model_where_the_request_names_none(asked: Body) -> None:
    for path in (CHAT, COMPLETIONS):
        _, content = await ask(ScriptedEngine(model="mine"), asked, path)
        assert orjson.loads(content)["model"] == "mine"
