import json

import httpx
import pytest
from fastapi.testclient import TestClient

from server.core.types import Body
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from server.engine.upstream import UpstreamEngine
from tests.conftest import PROMPTS, AppFactory

CHAT = "/v1/chat/completions"


def question(text: str = "Hello", **fields: object) -> Body:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **fields}


def last_call(engine: ScriptedEngine) -> Body:
    body: Body = json.loads(engine.calls[-1].content)
    return body


def events(text: str) -> list[Body]:
    *frames, done, _ = text.split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def text_of(found: list[Body]) -> str:
    return "".join(choice["delta"].get("content", "") for event in found for choice in event["choices"])


@pytest.mark.parametrize("profile", ["default", "base", "off"])
def test_an_answer_names_its_profile_and_trace(make_app: AppFactory, profile: str) -> None:
    with TestClient(make_app(ScriptedEngine([ScriptedAnswer("Good day.")]))) as client:
        response = client.post(CHAT, json=question(model=f"scripted:{profile}"))
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Good day."}
    assert body["model"] == "scripted"
    assert response.headers["x-alignment-profile"].startswith(f"{profile}@")
    assert "alignment" not in body


@pytest.mark.parametrize("profile", ["default", "base", "off"])
def test_a_stream_says_the_same_as_a_whole_answer(make_app: AppFactory, profile: str) -> None:
    with TestClient(make_app(ScriptedEngine([ScriptedAnswer("Good day to you.")]))) as client:
        asked = question(model=f"scripted:{profile}", stream=True, stream_options={"include_usage": True})
        response = client.post(CHAT, json=asked)
    found = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-alignment-profile"].startswith(f"{profile}@")
    assert {event["object"] for event in found} == {"chat.completion.chunk"}
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text_of(found) == "Good day to you."
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("profile", ["default", "base"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_body_carries_the_trace_on_request(make_app: AppFactory, profile: str, stream: bool) -> None:
    with TestClient(make_app()) as client:
        asked = question("How do I bake bread?", stream=stream, alignment={"profile": profile, "trace": True})
        response = client.post(CHAT, json=asked)
    body = events(response.text)[-1] if stream else response.json()
    trace = body["alignment"]
    assert trace["trace_id"] == response.headers["x-alignment-trace-id"]
    assert f"{trace['profile']}@{trace['version']}" == response.headers["x-alignment-profile"]
    assert (trace["outcome"], trace["route"]) == ("ok", "low")
    assert len(trace["demonstrations"]) == 4
    assert trace["tokens"]["alignment"] > 100
    assert 0 < trace["timings_ms"]["aligned"] <= trace["timings_ms"]["generated"]


def test_off_hands_the_body_over_unchanged(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    asked = question("<|im_end|> stays", temperature=2, unknown={"a": [1, None]}, messages=[{"role": "odd"}])
    with TestClient(make_app(engine)) as client:
        client.post(CHAT, json={**asked, "alignment": {"profile": "off"}})
    assert last_call(engine) == asked


def test_off_hands_over_the_very_bytes(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    content = b'{ "model":"scripted", "messages" :[{"role":"user","content":"Hi"}], "seed": 123456789012345678901234 }'
    headers = {"x-alignment-profile": "off", "content-type": "application/json"}
    with TestClient(make_app(engine)) as client:
        client.post(CHAT, content=content, headers=headers)
    assert engine.calls[0].content == content


def test_default_puts_alignment_before_the_message(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    with TestClient(make_app(engine)) as client:
        client.post(CHAT, json=question("How do I bake bread?", seed=3))
    sent = last_call(engine)
    assert engine.calls[0].path == CHAT
    assert [message["role"] for message in sent["messages"]] == ["system", *["user", "assistant"] * 4, "user"]
    assert (sent["model"], sent["seed"]) == ("scripted", 3)


def test_base_is_sent_to_completions(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    with TestClient(make_app(engine)) as client:
        client.post(CHAT, json=question("How do I bake bread?", model="scripted:base"))
    assert engine.calls[0].path == "/v1/completions"
    assert last_call(engine)["prompt"].rstrip().endswith("# Answer:\n~~~~")
    assert last_call(engine)["max_tokens"] == 512


def test_an_override_shows_in_prompt_and_trace(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    options = {"num_demonstrations": 1, "trace": True}
    with TestClient(make_app(engine)) as client:
        body = client.post(CHAT, json=question(alignment=options)).json()
    assert len(last_call(engine)["messages"]) == 4
    assert body["alignment"]["overrides"] == {"num_demonstrations": 1}


def test_the_client_s_headers_reach_the_engine_and_ours_do_not(make_app: AppFactory) -> None:
    engine = ScriptedEngine()
    headers = {"x-request-id": "7", "authorization": "Bearer k", "cookie": "c", "x-alignment-profile": "off"}
    with TestClient(make_app(engine)) as client:
        client.post(CHAT, json=question(), headers=headers)
    passed = engine.calls[0].headers
    assert (passed["x-request-id"], passed["authorization"]) == ("7", "Bearer k")
    assert not {"cookie", "host", "x-alignment-profile"} & set(passed)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("profile", ["default", "base", "off"])
def test_an_engines_error_passes_with_its_status(make_app: AppFactory, profile: str, stream: bool) -> None:
    engine = ScriptedEngine([ScriptedAnswer("slow down", status=429)])
    with TestClient(make_app(engine)) as client:
        response = client.post(CHAT, json=question(model=f"scripted:{profile}", stream=stream))
    assert (response.status_code, response.json()["error"]["message"]) == (429, "slow down")
    assert response.headers["x-alignment-profile"].startswith(profile)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_an_error_that_is_not_openais_is_put_into_its_form(make_app: AppFactory, path: str) -> None:
    def gateway(_: httpx.Request) -> httpx.Response:
        page = httpx.ByteStream(b"<h1>Bad gateway</h1>")
        return httpx.Response(502, headers={"content-type": "text/html", "retry-after": "3"}, stream=page)

    engine = UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(gateway))
    with TestClient(make_app(engine)) as client:
        response = client.post(path, json=question(prompt="x"))
    assert (response.status_code, response.headers["retry-after"]) == (502, "3")
    assert response.headers["content-type"] == "application/json"
    assert "Bad gateway" in response.json()["error"]["message"]


def test_a_redirect_is_the_engines_fault(make_app: AppFactory) -> None:
    moved = httpx.Response(307, headers={"location": "/elsewhere"}, stream=httpx.ByteStream(b""))
    engine = UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(lambda _: moved))
    with TestClient(make_app(engine)) as client:
        response = client.post(CHAT, json=question())
    assert (response.status_code, response.json()["error"]["code"]) == (502, "engine_error")


def test_models_are_listed_bare_and_with_each_profile(make_app: AppFactory) -> None:
    with TestClient(make_app()) as client:
        listed = client.get("/v1/models").json()
        one = client.get("/v1/models/scripted:base").json()
    shipped = sorted(path.stem for path in (PROMPTS / "profiles").iterdir())
    assert [model["id"] for model in listed["data"]] == ["scripted", *(f"scripted:{name}" for name in shipped)]
    assert one in listed["data"]
    assert listed["data"][0]["alignment"]["profile"] == "default"


def test_plain_completions_pass_through(make_app: AppFactory) -> None:
    engine = ScriptedEngine([ScriptedAnswer("done")])
    with TestClient(make_app(engine)) as client:
        response = client.post("/v1/completions", json={"model": "scripted", "prompt": "x"})
    assert response.json()["choices"][0]["text"] == "done"
    assert last_call(engine) == {"model": "scripted", "prompt": "x"}
    assert "x-alignment-profile" not in response.headers


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"model": "scripted:off"}, {}, 200),
        ({"alignment": {"profile": "off"}}, {}, 200),
        ({"model": "scripted:base"}, {}, 400),
        ({"alignment": {"profile": "default"}}, {}, 400),
        ({}, {"x-alignment-profile": "default"}, 400),
        ({}, {"x-alignment-profile": "nobody"}, 404),
    ],
)
def test_an_unaligned_endpoint_takes_no_profile_that_aligns(
    make_app: AppFactory, fields: Body, headers: dict[str, str], status: int
) -> None:
    passed: list[Body] = []

    def embed(request: httpx.Request) -> httpx.Response:
        passed.append(json.loads(request.content))
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    engine = UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(embed))
    with TestClient(make_app(engine)) as client:
        body = {"model": "scripted", "input": "x", **fields}
        assert client.post("/v1/embeddings", json=body, headers=headers).status_code == status
    assert passed == ([{"model": "scripted", "input": "x"}] if status == 200 else [])


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions?language=fr", "/v1/responses/r1/cancel"])
def test_what_is_not_json_passes_with_its_content_type_and_query(make_app: AppFactory, path: str) -> None:
    seen: list[httpx.Request] = []

    def hear(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"content-type": "text/plain"}, stream=httpx.ByteStream(b"hello"))

    engine = UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(hear))
    with TestClient(make_app(engine)) as client:
        response = client.post(path, content=b"\x00\xff", headers={"content-type": "multipart/form-data; boundary=b"})
    assert (response.text, response.headers["content-type"]) == ("hello", "text/plain")
    assert str(seen[0].url) == f"http://upstream{path}"
    assert (seen[0].content, seen[0].headers["content-type"]) == (b"\x00\xff", "multipart/form-data; boundary=b")


@pytest.mark.parametrize("path", ["/invocations", "/inference/v1/generate", "/v1/chat/completions/render"])
def test_what_would_generate_around_alignment_is_for_profiles_that_do_not_align(
    make_app: AppFactory, path: str
) -> None:
    passed: list[Body] = []

    def generate(request: httpx.Request) -> httpx.Response:
        passed.append(json.loads(request.content))
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    engine = UpstreamEngine("http://upstream/v1", transport=httpx.MockTransport(generate))
    with TestClient(make_app(engine)) as client:
        refused = client.post(path, json=question())
        assert not passed
        assert client.post(path, json=question(model="scripted:off")).status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "not_offered")
    assert "profile 'default'" in refused.json()["error"]["message"]
    assert passed == [question()]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions/batch", "/v1/responses", "/v1/messages"])
def test_json_must_be_declared_to_be_aligned(make_app: AppFactory, path: str, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    with TestClient(make_app()) as client:
        response = client.post(path, content=json.dumps(question()), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=utf-8"])
def test_off_hands_over_the_content_type(make_app: AppFactory, content_type: str | None) -> None:
    engine = ScriptedEngine()
    headers = {"x-alignment-profile": "off"} | ({"content-type": content_type} if content_type else {})
    with TestClient(make_app(engine)) as client:
        client.post(CHAT, content=json.dumps(question()), headers=headers)
    assert engine.calls[0].headers["content-type"] == (content_type or "")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"messages": "\\ud800"}', b'{"seed": NaN}'])
def test_off_hands_over_what_is_not_json_too(make_app: AppFactory, content: bytes) -> None:
    engine = ScriptedEngine()
    with TestClient(make_app(engine)) as client:
        headers = {"content-type": "application/json"}
        assert client.post(CHAT, content=content, headers=headers).json()["error"]["code"] == "invalid_value"
        assert not engine.calls
        client.post(CHAT, content=content, headers={**headers, "x-alignment-profile": "off"})
    assert engine.calls[0].content == content


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_a_body_that_only_engines_read_does_not_slip_around_its_profile(make_app: AppFactory, path: str) -> None:
    content = b'{"model": "scripted:base", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "top_p": NaN}'
    engine = ScriptedEngine()
    with TestClient(make_app(engine, default_profile="off")) as client:
        response = client.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert not engine.calls
