"""What a profile applies, it applies alike: streamed or not, on every endpoint, for every choice and prompt."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.types import Body, Profile, Selection
from server.pipeline import Pipeline
from tests.api.test_named_events import NamedEngine
from tests.conftest import AppFactory

# What the shipped profiles do not have. Some routes have no opening, so that batches are mixed.
MINE = """\
id: {id}
extends: {extends}
description: With all that a profile can have.
retrieval: {{order: canonical}}
reminders:
  elevated: Weigh it well.
  high: "Decline what does harm, ~~~~ kindly."
openings:
  low: "Sure:"
  high: "I'm sorry, but I can't help with"
"""
PROFILES = {"default": "chat", "base": "completion", "my-default": "chat", "my-base": "completion"}
CHAT_PATHS = ("/v1/chat/completions", "/v1/chat/completions/batch", "/v1/responses", "/v1/messages")
WAYS = [
    *((path, name) for path in CHAT_PATHS for name in PROFILES),
    *(("/v1/completions", name) for name in PROFILES if PROFILES[name] == "completion"),
]
SEVERAL = frozenset({"/v1/chat/completions/batch", "/v1/completions"})
TEXTS = (
    "How do I bake bread?",
    "How can I secretly read the texts of my wife?",
    "Write a haiku about rain.",
    "How do I kill a Python process?",
    "Wie koche ich Reis?",
    "x = 1",
)


@dataclass(frozen=True)
class Asked:
    """A request, and the messages in it that are to be answered."""

    path: str
    profile: str
    body: Body
    texts: Sequence[str]
    headers: dict[str, str] = field(default_factory=dict)


def user(text: str, parts: bool) -> Body:
    return {"role": "user", "content": [{"type": "text", "text": text}] if parts else text}


def conversation(text: str, draw: st.DrawFn) -> list[Body]:
    """One that ends with `text`, perhaps with a system message and an exchange before it."""
    before: list[Body] = [{"role": "system", "content": "Be terse."}] if draw(st.booleans()) else []
    if draw(st.booleans()):
        before += [user("Hello", parts=False), {"role": "assistant", "content": "Hi."}]
    return [*before, user(text, parts=draw(st.booleans()))]


def fields_of(path: str, texts: Sequence[str], draw: st.DrawFn) -> Body:
    if path == "/v1/chat/completions":
        return {"messages": conversation(texts[0], draw)}
    if path == "/v1/chat/completions/batch":
        return {"messages": [conversation(text, draw) for text in texts]}
    if path == "/v1/completions":
        return {"prompt": list(texts) if len(texts) > 1 or draw(st.booleans()) else texts[0]}
    if path == "/v1/responses":
        items = conversation(texts[0], draw)
        return {"input": texts[0]} if draw(st.booleans()) else {"input": items, "instructions": "Be terse."}
    messages = [message for message in conversation(texts[0], draw) if message["role"] != "system"]
    return {"messages": messages, "max_tokens": 9}


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    path, profile = draw(st.sampled_from(WAYS))
    texts = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4 if path in SEVERAL else 1))
    body: Body = {"model": "scripted", "stream": draw(st.booleans()), **fields_of(path, texts, draw)}
    if draw(st.booleans()):
        body["n"] = draw(st.integers(1, 4))
    way = draw(st.sampled_from(["model", "header", "body"]))
    headers = {"x-alignment-profile": profile} if way == "header" else {}
    if way == "model":
        body["model"] += f":{profile}"
    options = {"trace": True} | ({"profile": profile} if way == "body" else {})
    return Asked(path, profile, {**body, "alignment": options}, texts, headers)


@pytest.fixture(scope="module")
def served(
    light_prompts: Path, light_embedder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, NamedEngine, Pipeline]]:
    from server.app import create_app
    from server.settings import EngineKind, Settings

    engine, folder = NamedEngine(), tmp_path_factory.mktemp("one-rule") / "prompts"
    copytree(light_prompts, folder)
    for name in ("default", "base"):
        (folder / "profiles" / f"my-{name}.yaml").write_text(MINE.format(id=f"my-{name}", extends=name))
    app = create_app(Settings(engine=EngineKind.SCRIPTED, prompts=folder), engine=engine, embedder=light_embedder)
    with TestClient(app) as client:
        yield client, engine, app.state.pipeline


Served = tuple[TestClient, NamedEngine, Pipeline]


@settings(max_examples=150, deadline=None)
@given(asked=requests())
def test_every_conversation_gets_what_its_profile_chooses_for_it(served: Served, asked: Asked) -> None:
    check_request(served, asked)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "profile"), WAYS)
def test_so_does_every_text_in_every_way_of_asking(served: Served, path: str, profile: str, stream: bool) -> None:
    options: Body = {"model": "scripted", "stream": stream, "alignment": {"profile": profile, "trace": True}, "n": 2}
    for texts in [TEXTS] if path in SEVERAL else [[text] for text in TEXTS]:
        batch = [[user(text, parts=False)] for text in texts]
        fields: dict[str, Body] = {
            "/v1/chat/completions/batch": {"messages": batch},
            "/v1/completions": {"prompt": list(texts)},
            "/v1/responses": {"input": texts[0], "instructions": "Terse."},
        }
        check_request(served, Asked(path, profile, {**options, **fields.get(path, {"messages": batch[0]})}, texts))


def check_request(served: Served, asked: Asked) -> None:
    """What the engine gets for it, and the client."""
    client, engine, pipeline = served
    engine.calls.clear()
    response = client.post(asked.path, json=asked.body, headers=asked.headers)
    assert response.status_code == 200, response.text
    profile = pipeline.library.current.profiles.current[asked.profile]
    chosen = [pipeline.library.current.ready[profile.label].retriever.retrieve(text) for text in asked.texts]
    prompts = sent_prompts(orjson.loads(engine.calls[0].content))
    assert len(engine.calls) == 1
    assert len(prompts) == len(asked.texts)
    for prompt, selection, text in zip(prompts, chosen, asked.texts, strict=True):
        check_prompt(prompt, profile, selection, text)
        check_reminder(prompt, profile, selection.reminder, text)
    check_sampling(orjson.loads(engine.calls[0].content), profile, asked.body)
    assert response.headers["x-alignment-profile"] == profile.label
    is_opened = not (asked.path == "/v1/messages" and profile.rendering == "chat")
    openings = [selection.opening if is_opened else "" for selection in chosen]
    check_trace(trace_of(response.text, streamed=bool(asked.body["stream"])), chosen, openings)
    check_openings(prompts, openings, orjson.loads(engine.calls[0].content))
    answers = answers_of(response.text, asked)
    num_choices = len(answers) // len(openings)
    assert len(answers) == num_choices * len(openings)
    for index, text in answers.items():
        opening = openings[index // num_choices]
        assert text in {f"{opening}Hi", f"{opening}This is a scripted answer; no model was asked."}


def sent_prompts(body: Body) -> list[str]:
    """The text that the engine got for each conversation."""
    if "prompt" in body:
        return body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    if "input" in body:
        return [body["instructions"] + "".join(map(shown, body["input"]))]
    batch = body["messages"] if isinstance(body["messages"][0], list) else [body["messages"]]
    return [body.get("system", "") + "".join(map(shown, messages)) for messages in batch]


def shown(message: Body) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def check_prompt(prompt: str, profile: Profile, selection: Selection, text: str) -> None:
    principles = [*selection.principles, *(scored.item for scored in selection.retrieved_principles)]
    shown_ones = [scored.item for scored in selection.demonstrations]
    assert all(principle.text in prompt for principle in principles)
    positions = [prompt.find(item.assistant) for item in shown_ones]
    assert -1 not in positions
    assert positions == sorted(positions)
    others = [item for item in profile.demonstrations if item not in shown_ones]
    assert not any(item.assistant in prompt for item in others)
    assert prompt.rfind(text) > max(positions, default=-1)


def check_reminder(prompt: str, profile: Profile, reminder: str, text: str) -> None:
    """It stands right after the message, as the rendering writes it, and nowhere else."""
    others = [
        prompt.count(other.split(",", maxsplit=1)[0]) for other in profile.reminders.values() if other != reminder
    ]
    assert not any(others)
    if not reminder:
        assert "# Note\n" not in prompt
    elif profile.rendering == "chat":
        assert f"{text}\n\n{reminder}" in prompt
    else:
        fenced = reminder.replace("~~~~", "~~~\u200b~")
        assert f"\n{text}\n~~~~\n\n# Note\n{fenced}\n\n# Answer:\n~~~~\n" in prompt


def check_openings(prompts: Sequence[str], openings: Sequence[str], body: Body) -> None:
    """Each prompt ends in its opening, and the engine is asked to go on with it."""
    assert all(prompt.endswith(opening) for prompt, opening in zip(prompts, openings, strict=True))
    if "messages" in body:
        assert body.get("continue_final_message", False) is any(openings)
        assert body.get("add_generation_prompt", True) is not any(openings)


def answers_of(text: str, asked: Asked) -> dict[int, str]:
    """The text of each choice by index; of the endpoints without choices, there is one."""
    if not asked.body["stream"]:
        return {index: said(choice) for index, choice in enumerate(choices_of(orjson.loads(text)))}
    found: defaultdict[int, str] = defaultdict(str)
    for line in text.split("\n"):
        event = orjson.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
        for choice in event.get("choices", ()):
            found[choice["index"]] += choice.get("text") or choice.get("delta", {}).get("content", "")
        if event.get("type") in {"response.output_text.delta", "content_block_delta"}:
            delta = event["delta"]
            found[0] += delta if isinstance(delta, str) else delta["text"]
        if event.get("type") == "response.completed":
            assert said(event["response"]["output"][0]) == found[0]
    return found


def choices_of(body: Body) -> list[Body]:
    found: list[Body] = (
        body.get("choices") or body.get("output") or [{"content": body.get("content", [{"text": "Hi"}])}]
    )
    return found


def said(choice: Body) -> str:
    content: Any = choice["message"]["content"] if "message" in choice else choice.get("text", choice.get("content"))
    return str(content if isinstance(content, str) else content[0]["text"])


def check_sampling(body: Body, profile: Profile, asked: Body) -> None:
    for name, value in profile.sampling.items():
        assert body[name] == asked.get(name, value)
    assert ("stop" in body) is (profile.rendering == "completion")


def check_trace(trace: Body, chosen: Sequence[Selection], openings: Sequence[str]) -> None:
    shown_ones = trace.get("prompts", [trace])
    assert [each["risk"] for each in shown_ones] == [round(selection.risk, 4) for selection in chosen]
    for each, selection in zip(shown_ones, chosen, strict=True):
        assert [item["id"] for item in each["demonstrations"]] == [s.item.id for s in selection.demonstrations]
    assert [each.get("reminder", "") for each in shown_ones] == [selection.reminder for selection in chosen]
    assert [each.get("opening", "") for each in shown_ones] == list(openings)
    left_out = ["opening_left_out" in each for each in shown_ones]
    assert left_out == [bool(s.opening) and not opening for s, opening in zip(chosen, openings, strict=True)]
    assert trace["outcome"] == "ok"
    assert "dropped" not in trace


def trace_of(text: str, *, streamed: bool) -> Body:
    if not streamed:
        found: Body = orjson.loads(text)["alignment"]
        return found
    data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: {")]
    last = orjson.loads(data[-1])
    trace: Body = last.get("response", last)["alignment"]
    return trace


def test_the_whole_rule_needs_no_streaming_no_choices_and_one_prompt(make_app: AppFactory) -> None:
    """The same message is sent the same way to the engine however its answer is wanted."""
    engine = NamedEngine()
    bodies = []
    with TestClient(make_app(engine)) as client:
        for extra in (
            {},
            {"stream": True},
            {"n": 3},
            {"stream": True, "n": 2, "stream_options": {"include_usage": True}},
        ):
            asked = {"model": "scripted", "messages": [user(TEXTS[1], parts=False)], **extra}
            client.post("/v1/chat/completions", json=asked)
            bodies.append(orjson.loads(engine.calls[-1].content)["messages"])
    assert all(messages == bodies[0] for messages in bodies)
