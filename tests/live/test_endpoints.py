"""The aligned endpoints beside chat, and those that pass, on the real engine."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator

import httpx
import jsonschema
import pytest

from server.core.types import Body
from server.rendering.tokens import ModelTokenizer
from tests.live.asking import CHAT, QUESTION, SCHEMA, Reply, post
from tests.live.conftest import OPENING, SMOLLM2, opened

BATCH = "/v1/chat/completions/batch"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
PROMPT = "The capital of France is"
INSTRUCTIONS = "Speak plainly, says the client."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
# A way to ask each endpoint, whatever it calls things.
BODIES: dict[str, Body] = {
    CHAT: {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 4},
    BATCH: {"messages": [[{"role": "user", "content": text}] for text in (QUESTION, PROMPT)], "max_tokens": 4},
    COMPLETIONS: {"prompt": PROMPT, "max_tokens": 4},
    RESPONSES: {"input": QUESTION, "instructions": INSTRUCTIONS, "max_output_tokens": 4},
    MESSAGES: {"messages": [{"role": "user", "content": QUESTION}], "system": INSTRUCTIONS, "max_tokens": 4},
}


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    is_streamed: bool = request.param
    return is_streamed


def ask(url: str, path: str, profile: str | None, **fields: object) -> Reply:
    model = f"{SMOLLM2}:{profile}" if profile else SMOLLM2
    return post(url, path, {"model": model, "temperature": 0, **BODIES[path], **fields})


def answer(url: str, path: str, profile: str | None, **fields: object) -> Body:
    reply = ask(url, path, profile, **fields)
    assert reply.status == 200, reply.body
    return reply.body


def events_of(url: str, path: str, profile: str, **fields: object) -> list[Body]:
    reply = ask(url, path, profile, stream=True, **fields)
    assert reply.status == 200, reply.body
    return reply.events


def num_tokens(url: str, prompt: str) -> int:
    count: int = post(url, "/tokenize", {"model": SMOLLM2, "prompt": prompt}).body["count"]
    return count


# All of them

ALIGNED = [(CHAT, "default"), (CHAT, "base"), (BATCH, "default"), (BATCH, "base"), (COMPLETIONS, "base")]
ALIGNED += [(path, profile) for path in (RESPONSES, MESSAGES) for profile in ("default", "base")]
# vLLM streams no batches, and continues no message of Anthropic's form.
WAYS = [(*way, stream) for way in ALIGNED for stream in (False, True) if not (stream and way[0] == BATCH)]


@pytest.fixture(scope="module")
def opened_url(smollm2_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opened(smollm2_url, tmp_path_factory.mktemp("opened") / "prompts") as url:
        yield url


def texts_of(reply: Reply) -> list[str]:
    """What each answer says, whatever the endpoint calls it."""
    found: defaultdict[int, str] = defaultdict(str)
    for body in reply.events or [reply.body]:
        for choice in body.get("choices", ()):
            said = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
            found[choice["index"]] += said["content"] or ""
        if body.get("type") in {"response.output_text.delta", "content_block_delta"}:
            found[0] += body["delta"] if isinstance(body["delta"], str) else body["delta"]["text"]
        for part in (body.get("output") or [body])[0].get("content", ()):
            found[0] += part["text"]
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize(("path", "profile", "stream"), WAYS)
def test_an_opening_is_continued_and_shown(opened_url: str, path: str, profile: str, stream: bool) -> None:
    fields: Body = {"n": 2, "temperature": 0.5} if path in {CHAT, COMPLETIONS} else {}
    reply = ask(opened_url, path, f"off:{profile}", stream=stream, alignment={"trace": True}, **fields)
    assert reply.status == 200, reply.body
    texts = texts_of(reply)
    assert len(texts) == (2 if path in {CHAT, COMPLETIONS, BATCH} else 1)
    is_opened = (path, profile) != (MESSAGES, "default")
    assert all((text.startswith(OPENING) and len(text) > len(OPENING)) is is_opened for text in texts)
    assert all(text.count(OPENING) == is_opened for text in texts)
    assert ('"opening_left_out": "endpoint"' in json.dumps(reply.events or reply.body)) is not is_opened
    if path == RESPONSES and stream:
        (ended,) = [event["response"] for event in reply.events if event["type"] == "response.completed"]
        assert [part["text"] for item in ended["output"] for part in item["content"]] == texts


def test_an_opening_is_all_that_the_prompt_has_more(smollm2_url: str, opened_url: str) -> None:
    for profile in ("default", "base"):
        plain, more = (
            answer(url, CHAT, asked)["usage"]["prompt_tokens"]
            for url, asked in ((smollm2_url, profile), (opened_url, f"off:{profile}"))
        )
        assert more - plain == num_tokens(smollm2_url, OPENING)
    mixed = [
        [{"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}],
    ]
    assert len(answer(opened_url, BATCH, "off:default", messages=mixed)["choices"]) == 2


@pytest.mark.parametrize(("path", "profile", "stream"), WAYS)
def test_an_answer_names_its_profile_and_trace(smollm2_url: str, path: str, profile: str, stream: bool) -> None:
    reply = ask(smollm2_url, path, profile, stream=stream, alignment={"trace": True})
    (traced,) = [event for event in reply.events if "alignment" in str(event)] if stream else [reply.body]
    trace = traced.get("response", traced)["alignment"]
    assert reply.headers["x-alignment-profile"] == f"{profile}@{trace['version']}"
    assert reply.headers["x-alignment-trace-id"] == trace["trace_id"]
    assert trace["outcome"] == "ok"
    assert trace["tokens"]["alignment"] > 200
    shown = trace["prompts"] if path == BATCH else [trace]
    assert all(len(prompt["principles"]) == 4 for prompt in shown)
    assert shown[0]["demonstrations"]
    assert "alignment" not in str(ask(smollm2_url, path, profile, stream=stream).body)


def test_a_profile_that_an_endpoint_cannot_carry_is_refused(smollm2_url: str, stream: bool) -> None:
    reply = ask(smollm2_url, COMPLETIONS, "default", stream=stream)
    assert (reply.status, reply.headers["x-alignment-profile"].partition("@")[0]) == (400, "default")
    error = reply.body["error"]
    assert "Profile 'default' has" in error["message"]
    assert COMPLETIONS in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "invalid_value")


# Completions


def test_completions_are_plain_unless_a_profile_is_named(smollm2_url: str, stream: bool) -> None:
    fields: Body = {"stream_options": {"include_usage": True}} if stream else {}
    reply = ask(smollm2_url, COMPLETIONS, None, stream=stream, **fields)
    last = reply.events[-1] if stream else reply.body
    assert last["usage"]["prompt_tokens"] == num_tokens(smollm2_url, PROMPT)
    assert "x-alignment-profile" not in reply.headers


@pytest.mark.parametrize("prompts", [PROMPT, [PROMPT], [PROMPT, QUESTION]], ids=["text", "one", "two"])
def test_completions_are_aligned_prompt_by_prompt(smollm2_url: str, prompts: str | list[str], stream: bool) -> None:
    fields = {"prompt": prompts, "n": 2, "temperature": 1, "seed": 5, "logprobs": 2, "max_tokens": 3, "min_tokens": 3}
    options: Body = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    reply = ask(smollm2_url, COMPLETIONS, "base", **fields, **options)
    assert reply.status == 200, reply.body
    count = 1 if isinstance(prompts, str) else len(prompts)
    texts = [""] * 2 * count
    tokens = [""] * 2 * count
    for event in reply.events or [reply.body]:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
            tokens[choice["index"]] += "".join((choice["logprobs"] or {"tokens": []})["tokens"])
            assert all(2 <= len(top) <= 3 for top in (choice["logprobs"] or {"top_logprobs": []})["top_logprobs"])
    assert all(tokens[index].startswith(text) for index, text in enumerate(texts))
    assert all(tokens)
    usage = (reply.events or [reply.body])[-1]["usage"]
    shown = [render_completion(smollm2_url, prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
    assert usage["prompt_tokens"] == sum(shown)
    assert usage["completion_tokens"] == 3 * 2 * count


def render_completion(url: str, prompt: str) -> int:
    """The tokens of an aligned prompt."""
    asked = {"model": f"{SMOLLM2}:base", "messages": [{"role": "user", "content": prompt}]}
    sent = post(url, "/v1/alignment/render", asked).body["body"]
    assert sent["prompt"].count(prompt) == 1
    return num_tokens(url, sent["prompt"])


@pytest.mark.parametrize("field", ["echo", "suffix"])
def test_what_an_aligned_completion_cannot_do_is_refused(smollm2_url: str, field: str) -> None:
    reply = ask(smollm2_url, COMPLETIONS, "base", **{field: "x"})
    assert (reply.status, reply.body["error"]["param"]) == (400, field)


# Batches


@pytest.mark.parametrize("profile", ["default", "base"])
def test_each_conversation_of_a_batch_is_aligned(smollm2_url: str, profile: str) -> None:
    choices = {"structured_outputs": {"choice": ["yes", "no"]}}
    body = answer(smollm2_url, BATCH, profile, alignment={"trace": True}, **choices)
    assert body["object"] == "chat.completion"
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert all(choice["message"]["content"] in ("yes", "no") for choice in body["choices"])
    alone = []
    for messages in BODIES[BATCH]["messages"]:
        asked = {"model": f"{SMOLLM2}:{profile}", "messages": messages}
        alone.append(post(smollm2_url, "/v1/alignment/render", asked).body)
    assert body["usage"]["prompt_tokens"] == sum(shown["tokens"]["prompt"] for shown in alone)
    shown = [prompt["demonstrations"] for prompt in body["alignment"]["prompts"]]
    assert shown == [preview["demonstrations"] for preview in alone]
    assert shown[0] != shown[1]


# Responses


def test_a_response_echoes_the_clients_instructions(smollm2_url: str, stream: bool) -> None:
    reply = ask(smollm2_url, RESPONSES, "default", stream=stream)
    shown = [event["response"] for event in reply.events if "response" in event] if stream else [reply.body]
    assert len(shown) == (3 if stream else 1)
    assert all(response["instructions"] == INSTRUCTIONS for response in shown)
    assert shown[-1]["status"] == "incomplete"
    assert shown[-1]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert shown[-1]["usage"]["output_tokens"] == 4
    assert shown[-1]["usage"]["input_tokens"] > 300


def test_a_streamed_response_has_all_its_events(smollm2_url: str) -> None:
    events = events_of(smollm2_url, RESPONSES, "default", instructions=None)
    *kinds, end = list(dict.fromkeys(event["type"] for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert end in {"response.completed", "response.incomplete"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    assert events[-1]["response"]["instructions"] is None


def test_a_response_has_the_form_that_is_asked_for(smollm2_url: str, stream: bool) -> None:
    form = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}
    reply = ask(smollm2_url, RESPONSES, "default", text=form, max_output_tokens=40, stream=stream)
    body = reply.events[-1]["response"] if stream else reply.body
    assert body["status"] == "completed"
    jsonschema.validate(json.loads(body["output"][0]["content"][0]["text"]), SCHEMA)


def test_a_response_calls_a_tool_and_takes_its_result(smollm2_url: str, stream: bool) -> None:
    tool = {"type": "function", "name": "show_city", "parameters": SCHEMA, "strict": True}
    asked = {"tools": [tool], "tool_choice": "required", "max_output_tokens": 80, "stream": stream}
    reply = ask(smollm2_url, RESPONSES, "default", **asked)
    body = reply.events[-1]["response"] if stream else reply.body
    calls = [item for item in body["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == ["show_city"]
    jsonschema.validate(json.loads(calls[0]["arguments"]), SCHEMA)
    call = {name: calls[0][name] for name in ("type", "call_id", "name", "arguments")}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "shown"}
    items = [{"role": "user", "content": "Show a city."}, call, result, {"role": "user", "content": QUESTION}]
    asked = {"input": items, "tools": [tool], "tool_choice": "none", "alignment": {"trace": True}}
    after = answer(smollm2_url, RESPONSES, "default", **asked)
    assert after["output"][0]["type"] == "message"
    # What is looked for is the last question, not the result.
    alone = answer(smollm2_url, RESPONSES, "default", alignment={"trace": True})
    assert after["alignment"]["demonstrations"] == alone["alignment"]["demonstrations"]
    assert after["usage"]["input_tokens"] > alone["usage"]["input_tokens"]


def test_a_response_that_is_not_stored_is_not_gone_on_from(smollm2_url: str, stream: bool) -> None:
    errors = [
        ask(smollm2_url, RESPONSES, profile, previous_response_id="resp_1", stream=stream)
        for profile in ("default", "off")
    ]
    assert [error.status for error in errors] == [404, 404]
    assert errors[0].body == errors[1].body
    assert "resp_1" in errors[0].body["error"]["message"]


# Messages


def test_a_message_counts_what_the_engine_got(smollm2_url: str, stream: bool) -> None:
    def usage(profile: str) -> int:
        if stream:
            events = events_of(smollm2_url, MESSAGES, profile)
            kinds = ["message_start", "content_block_start", "content_block_delta", "content_block_stop"]
            found = list(dict.fromkeys(event["type"] for event in events))
            assert found == [*kinds, "message_delta", "message_stop"]
            (end,) = [event for event in events if event["type"] == "message_delta"]
            ended, counts = end["delta"], end["usage"]
        else:
            body = answer(smollm2_url, MESSAGES, profile)
            assert (body["type"], body["role"], body["content"][0]["type"]) == ("message", "assistant", "text")
            ended, counts = body, body["usage"]
        assert (ended["stop_reason"], counts["output_tokens"]) == ("max_tokens", 4)
        return sum(value or 0 for name, value in counts.items() if "input" in name)

    asked = {"model": f"{SMOLLM2}:default", "messages": [{"role": "system", "content": INSTRUCTIONS}]}
    asked["messages"] = [*asked["messages"], *BODIES[MESSAGES]["messages"]]
    shown = post(smollm2_url, "/v1/alignment/render", asked).body
    assert usage("default") == shown["tokens"]["prompt"]
    assert usage("off") < 80


def test_a_system_text_may_come_in_blocks(smollm2_url: str) -> None:
    blocks = [{"type": "text", "text": INSTRUCTIONS}]
    found = [answer(smollm2_url, MESSAGES, "default", system=system) for system in (INSTRUCTIONS, blocks)]
    counts = [sum(body["usage"][name] or 0 for name in body["usage"] if "input" in name) for body in found]
    assert counts[0] == counts[1]


def test_a_message_uses_tools(smollm2_url: str, stream: bool) -> None:
    tool = {"name": "show_city", "input_schema": SCHEMA, "strict": True}
    asked = {"tools": [tool], "tool_choice": {"type": "any"}, "max_tokens": 80, "stream": stream}
    reply = ask(smollm2_url, MESSAGES, "default", **asked)
    if stream:
        blocks = [event["content_block"] for event in reply.events if event["type"] == "content_block_start"]
        deltas = [event["delta"] for event in reply.events if event["type"] == "content_block_delta"]
        given = json.loads("".join(delta["partial_json"] for delta in deltas if "partial_json" in delta))
        (reason,) = [event["delta"]["stop_reason"] for event in reply.events if event["type"] == "message_delta"]
    else:
        blocks, reason = reply.body["content"], reply.body["stop_reason"]
        given = next(block["input"] for block in blocks if block["type"] == "tool_use")
    (use,) = [block for block in blocks if block["type"] == "tool_use"]
    assert (use["name"], reason) == ("show_city", "tool_use")
    jsonschema.validate(given, SCHEMA)
    history = [
        {"role": "user", "content": "Show a city."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": use["id"], "name": "show_city", "input": given}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "shown"}]},
    ]
    after = answer(smollm2_url, MESSAGES, "default", messages=history, tools=[tool], alignment={"trace": True})
    assert after["content"]
    alone = answer(
        smollm2_url,
        MESSAGES,
        "default",
        messages=[{"role": "user", "content": "Show a city."}],
        alignment={"trace": True},
    )
    assert after["alignment"]["demonstrations"] == alone["alignment"]["demonstrations"]


# What passes


IMAGES: dict[str, Body] = {
    CHAT: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    RESPONSES: {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
    MESSAGES: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
}


@pytest.mark.parametrize("path", IMAGES)
def test_a_text_model_refuses_images(smollm2_url: str, path: str, stream: bool) -> None:
    field = "input" if path == RESPONSES else "messages"
    fields = {field: [{"role": "user", "content": [IMAGES[path]]}], "stream": stream}
    errors = [ask(smollm2_url, path, profile, **fields) for profile in ("default", "off")]
    assert [error.status for error in errors] == [400, 400]
    assert "not a multimodal model" in errors[0].body["error"]["message"]
    assert errors[0].body == errors[1].body


@pytest.fixture
def client(smollm2_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=smollm2_url, timeout=60) as client:
        yield client


def test_tokens_go_there_and_back(client: httpx.Client, smollm2_tokenizer: ModelTokenizer) -> None:
    found = client.post("/tokenize", json={"model": SMOLLM2, "prompt": PROMPT}).json()
    assert found["tokens"] == smollm2_tokenizer.encode(PROMPT)
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 4096)
    back = client.post("/detokenize", json={"model": SMOLLM2, "tokens": found["tokens"]}).json()
    assert back == {"prompt": PROMPT}


def test_the_engine_says_what_it_is_and_does(client: httpx.Client) -> None:
    assert re.fullmatch(r"\d+\.\d+\S*", client.get("/version").json()["version"])
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert re.search(
        r'^vllm:prompt_tokens_total\{.*model_name="smollm2-135m-instruct"\} \d', metrics.text, re.MULTILINE
    )


@pytest.mark.parametrize("profile", [None, "default", "base", "off"])
def test_a_model_is_shown_with_its_profile(client: httpx.Client, profile: str | None) -> None:
    name = f"{SMOLLM2}:{profile}" if profile else SMOLLM2
    entry = client.get(f"/v1/models/{name}").json()
    assert (entry["id"], entry["object"], entry["max_model_len"]) == (name, "model", 4096)
    assert entry["alignment"]["profile"] == (profile or "default")
    listed = client.get("/v1/models").json()["data"]
    assert [found["alignment"] for found in listed if found["id"] == name] == [entry["alignment"]]


def test_an_unknown_model_is_not_shown(client: httpx.Client) -> None:
    response = client.get("/v1/models/nobody")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
