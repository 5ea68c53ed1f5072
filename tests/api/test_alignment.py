import httpx
import pytest
from fastapi.testclient import TestClient

from server.core.types import Body
from server.engine.scripted import ScriptedEngine
from server.engine.upstream import UpstreamEngine
from tests.conftest import PROMPTS, AppFactory

SHIPPED = sorted(path.stem for path in (PROMPTS / "profiles").iterdir())


def question(text: str, **fields: object) -> Body:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **fields}


def test_render_shows_what_the_engine_would_get_and_asks_it_nothing(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    asked = question("How do I bake bread?", max_tokens=5)
    with TestClient(make_app(engine)) as client:
        preview = client.post("/v1/alignment/render", json=asked)
        assert not engine.calls
        client.post("/v1/chat/completions", json=asked)
    body = preview.json()
    assert engine.calls[0].path == body["endpoint"] == "/v1/chat/completions"
    import json

    assert json.loads(engine.calls[0].content) == body["body"]
    assert body["tokens"] == {
        "prompt": None,
        "alignment": body["tokens"]["alignment"],
        "client": 6,
        "window": None,
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
    assert (body["embedder"], body["passage"]) == ("wordllama-256", None)
    assert (body["neighbours"][0]["reason"], body["neighbours"][0]["why"]) == ("chosen", "chosen as number 1")
    nearest = [item["similarity"] for item in body["risk_neighbours"]]
    assert len(nearest) == 5
    assert nearest == sorted(nearest, reverse=True)
    assert body["risk_neighbours"][0].keys() == {"id", "similarity", "harmful", "user"}
    kept = [item["id"] for item in body["judged_principles"] if item["reason"] == "chosen"]
    assert sorted(kept) == sorted(item["id"] for item in body["retrieved_principles"])


def test_profiles_are_listed_with_their_contents_on_request(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        brief = client.get("/v1/alignment/profiles").json()
        full = client.get("/v1/alignment/profiles?detail=true").json()
    assert brief["default"] == "default"
    assert [profile["id"] for profile in brief["data"]] == SHIPPED
    default = next(profile for profile in full["data"] if profile["id"] == "default")
    assert len(default["principles"]) == default["num_principles"]
    assert len(default["demonstrations"]) == default["num_demonstrations"]
    assert "principles" not in brief["data"][0]


def test_health_and_readiness(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}


def test_a_server_whose_upstream_wants_the_clients_key_is_ready(make_app: AppFactory) -> None:
    def locked(request: httpx.Request) -> httpx.Response:
        known = request.headers.get("authorization") == "Bearer k"
        content = b'{"data": [{"id": "m", "max_model_len": 5}]}' if known else b'{"error": {"message": "no key"}}'
        return httpx.Response(200 if known else 401, stream=httpx.ByteStream(content))

    engine = UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(locked))
    with TestClient(make_app(engine)) as client:
        assert client.get("/ready").status_code == 200
        assert client.get("/v1/models").status_code == 401
        listed = client.get("/v1/models", headers={"authorization": "Bearer k"}).json()["data"]
    assert [model["id"] for model in listed] == ["m", *(f"m:{name}" for name in SHIPPED)]
    assert {model["max_model_len"] for model in listed} == {5}


def test_retrieve_takes_overrides_and_one_profile_only(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        asked = {"text": "bash rename files", "alignment": {"num_demonstrations": 1, "profile": "base"}}
        assert len(client.post("/v1/alignment/retrieve", json=asked).json()["demonstrations"]) == 1
        clash = client.post("/v1/alignment/retrieve", json=asked, headers={"x-alignment-profile": "default"})
    assert clash.status_code == 400


def test_unforeseen_failures_carry_trace_headers(make_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    monkeypatch.setattr(app.state.pipeline, "retrieve", None)
    with TestClient(app) as client:
        response = client.post("/v1/alignment/retrieve", json={"text": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert response.headers["x-alignment-trace-id"] in response.json()["error"]["message"]


@pytest.mark.parametrize("content", [[], None, ""])
def test_a_message_without_content_is_rendered(make_app: AppFactory, content: object) -> None:
    asked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    with TestClient(make_app()) as client:
        rendered = client.post("/v1/alignment/render?endpoint=/v1/messages", json=asked).json()
    assert rendered["body"]["messages"][-1] == {"role": "user", "content": content}


@pytest.mark.parametrize(("content_type", "status"), [("text/plain", 415), ("application/json", 413)])
def test_retrieve_refuses_what_other_endpoints_refuse(make_app: AppFactory, content_type: str, status: int) -> None:
    with TestClient(make_app(max_body_bytes=1024)) as client:
        content, headers = b" " * (2000 if status == 413 else 2), {"content-type": content_type}
        assert client.post("/v1/alignment/retrieve", content=content, headers=headers).status_code == status
