"""Images on their way to an upstream that takes them."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.testclient import TestClient

from server.core.types import Body
from server.engine.upstream import UpstreamEngine
from tests.conftest import AppFactory
from tests.servers import served

QUESTION = "How do I bake bread?"
DATA_URL = "data:image/png;base64,iVBORw0KGgo="
SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
# The field that holds the conversation, a text part and an image part, as each endpoint writes them.
PARTS: dict[str, tuple[str, Body, Body]] = {
    "/v1/chat/completions": (
        "messages",
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}, "uuid": "kept"},
    ),
    "/v1/responses": (
        "input",
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
    ),
    "/v1/messages": ("messages", {"type": "text", "text": QUESTION}, {"type": "image", "source": SOURCE}),
}
ANSWER: Body = {"id": "x", "choices": [], "type": "message"}


class Seeing(NamedTuple):
    """icalign in front of an upstream for images, and the bodies that this has got."""

    client: TestClient
    bodies: list[Body]


@pytest.fixture
def seeing(make_app: AppFactory) -> Iterator[Seeing]:
    upstream, bodies = FastAPI(), []

    @upstream.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer(path: str, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"object": "list", "data": []})
        bodies.append(await request.json())
        if not bodies[-1].get("stream"):
            return JSONResponse(ANSWER)
        return Response(f"data: {json.dumps(ANSWER)}\n\ndata: [DONE]\n\n", media_type="text/event-stream")

    with served(upstream) as url, TestClient(make_app(UpstreamEngine(f"{url}/v1"))) as client:
        yield Seeing(client, bodies)


def ask(seeing: Seeing, path: str, content: object, **fields: object) -> Body:
    """The messages that the upstream got, and the trace of a whole answer."""
    field = PARTS[path][0]
    asked = {"model": "m", "max_tokens": 5, field: [{"role": "user", "content": content}], **fields}
    shown = seeing.client.post(path, json={**asked, "alignment": {"trace": True}})
    assert shown.status_code == 200, shown.text
    trace = None if fields.get("stream") else shown.json()["alignment"]
    return {"messages": seeing.bodies[-1][field], "trace": trace}


@pytest.mark.parametrize("path", PARTS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_image_goes_on_untouched_and_its_text_is_looked_for(seeing: Seeing, path: str, stream: bool) -> None:
    _, text, image = PARTS[path]
    content = [image, text, image]
    messages = ask(seeing, path, content, stream=stream)["messages"]
    assert messages[-1] == {"role": "user", "content": content}
    with_image, alone = (ask(seeing, path, given)["trace"] for given in (content, QUESTION))
    assert len(alone["demonstrations"]) == 4
    assert {name: with_image[name] for name in ("demonstrations", "risk", "route", "retrieved_principles")} == {
        name: alone[name] for name in ("demonstrations", "risk", "route", "retrieved_principles")
    }
    # The demonstrations before it are the same, and have no images.
    assert messages[:-1] == ask(seeing, path, QUESTION)["messages"][:-1]
    assert len(messages) >= 9


@pytest.mark.parametrize("path", PARTS)
def test_an_image_alone_is_aligned_too(seeing: Seeing, path: str) -> None:
    _, _, image = PARTS[path]
    found = ask(seeing, path, [image])
    assert found["messages"][-1] == {"role": "user", "content": [image]}
    assert len(found["trace"]["principles"]) == 4


def test_an_image_in_a_system_message_keeps_it_a_message(seeing: Seeing) -> None:
    _, text, image = PARTS["/v1/chat/completions"]
    late = {"role": "system", "content": [text, image]}
    question = {"role": "user", "content": QUESTION}
    found = ask(seeing, "/v1/chat/completions", "", messages=[{"role": "system", "content": "Terse."}, late, question])
    assert found["messages"][-2:] == [late, question]
    assert "Terse." in found["messages"][0]["content"]


def test_a_base_model_takes_no_images(seeing: Seeing) -> None:
    _, text, image = PARTS["/v1/chat/completions"]
    asked = {"model": "m:base", "messages": [{"role": "user", "content": [text, image]}]}
    response = seeing.client.post("/v1/chat/completions", json=asked)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages[0]")
    assert seeing.bodies == []
