from fastapi.testclient import TestClient

from server.core.types import Body
from server.engine.scripted import ScriptedEngine
from tests.conftest import AppFactory


def question(text: str, **fields: object) -> Body:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **fields}


def test_render_shows_what_the_engine_would_get_and_asks_it_nothing(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    asked = question("How do I bake bread?", max_tokens=5)
    with TestClient(make_app(engine)) as client:
        preview = client.post("/v1/alignment/render", json=asked)
        assert engine.calls == []
        client.post("/v1/chat/completions", json=asked)
    body = preview.json()
    assert engine.calls[0].path == body["endpoint"] == "/v1/chat/completions"
    import json

    assert json.loads(engine.calls[0].content) == body["body"]
    assert body["tokens"] == {
        "prompt": None,
        "alignment": body["tokens"]["alignment"],
        "client": 6,
        "tokenizer": "estimate",
    }
    assert body["tokens"]["alignment"] > 100
    assert body["route"] == "low"
    assert 0 <= body["risk"] < 0.5
    assert preview.headers["x-alignment-profile"] == f"default@{body['version']}"


def test_render_of_off_is_the_request_itself(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        body = client.post("/v1/alignment/render", json=question("Hi", alignment={"profile": "off"})).json()
    assert body["body"] == question("Hi")
    assert "demonstrations" not in body


def test_retrieve_shows_choice_and_neighbours(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        body = client.post("/v1/alignment/retrieve", json={"text": "bash rename files", "count": 5}).json()
    similarities = [neighbour["similarity"] for neighbour in body["neighbours"]]
    assert len(similarities) == 5
    assert similarities == sorted(similarities, reverse=True)
    assert body["demonstrations"][-1]["id"] == body["neighbours"][0]["id"]
    assert body["embedder"] == "wordllama-256"


def test_profiles_are_listed_with_their_contents_on_request(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        brief = client.get("/v1/alignment/profiles").json()
        full = client.get("/v1/alignment/profiles?detail=true").json()
    assert brief["default"] == "default"
    assert {profile["id"] for profile in brief["data"]} == {"default", "base", "off"}
    default = next(profile for profile in full["data"] if profile["id"] == "default")
    assert len(default["principles"]) == default["num_principles"]
    assert len(default["demonstrations"]) == default["num_demonstrations"]
    assert "principles" not in brief["data"][0]


def test_health_and_readiness(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready", "models": ["scripted"]}
