"""Every feature of a chat request works on the real engine when it is aligned, streamed and not.

The model is tiny, so nothing here asks what it says: answers are forced by guided decoding or biases, or only their
structure counts.
"""

import json
import re
import uuid
from collections.abc import Callable

import jsonschema
import pytest

from server.core.types import Body
from server.rendering.tokens import ModelTokenizer
from tests.live.asking import QUESTION, SCHEMA, Chat, post, whole
from tests.live.conftest import SMOLLM2

BLOCK_TOKENS = 128
WINDOW_TOKENS = 4096
# What a chat format puts around a message.
MESSAGE_TOKENS = 8
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
TOOL: Body = {"type": "function", "function": {"name": "show_city", "parameters": SCHEMA}}
STRICT_TOOL: Body = {"type": "function", "function": {**TOOL["function"], "strict": True}}
OTHER_TOOL = {"type": "function", "function": {"name": "ring", "parameters": {"type": "object", "properties": {}}}}
CALL_TEXT = '<tool_call>\n{"name": "show_city", "arguments": {"city": "Rome"}}\n</tool_call>'
CALL = {"id": "c1", "type": "function", "function": {"name": "show_city", "arguments": '{"city": "Paris"}'}}
ANIMALS = (" zebra", " wolf", " lion", " tiger", " eagle", " rabbit", " horse", " whale")

Check = Callable[[str], object]

default_only = pytest.mark.parametrize("profile", ["default"])
base_only = pytest.mark.parametrize("profile", ["base"])
whole_only = pytest.mark.parametrize("stream", [False])


@pytest.fixture(params=["default", "base"])
def profile(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    is_streamed: bool = request.param
    return is_streamed


@pytest.fixture
def chat(smollm2_url: str, profile: str, stream: bool) -> Chat:
    return Chat(smollm2_url, profile, stream)


@pytest.fixture
def off(smollm2_url: str, stream: bool) -> Chat:
    """The same without alignment."""
    return Chat(smollm2_url, "off", stream)


@pytest.fixture(scope="session")
def animals(smollm2_tokenizer: ModelTokenizer) -> Body:
    """Lets the model say nothing but names of animals, and so not end either."""
    return {"allowed_token_ids": [token_id for word in ANIMALS for token_id in smollm2_tokenizer.encode(word)]}


@pytest.fixture(scope="session")
def token(smollm2_tokenizer: ModelTokenizer) -> Callable[[str], int]:
    def find(text: str) -> int:
        (found,) = smollm2_tokenizer.encode(text)
        return found

    return find


# Streams


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": True}])
@pytest.mark.parametrize("trace", [False, True])
def test_a_stream_ends_with_usage_and_trace_where_they_are_wanted(
    smollm2_url: str, profile: str, options: Body | None, trace: bool
) -> None:
    chunks = Chat(smollm2_url, profile, stream=True).reply(stream_options=options, alignment={"trace": trace}).events
    wants_usage = bool(options and options["include_usage"])
    wanted = [name for name, is_wanted in (("alignment", trace), ("usage", wants_usage)) if is_wanted]
    # Both in one chunk, the only one without choices.
    assert [bool(chunk["choices"]) for chunk in chunks[:-1]] == [True] * (len(chunks) - 1)
    assert bool(chunks[-1]["choices"]) == (not wanted)
    assert sorted({"usage", "alignment"} & set(chunks[-1])) == wanted
    answer = whole(chunks)
    assert answer["choices"][0]["finish_reason"] == "length"
    if wants_usage:
        assert answer["usage"]["completion_tokens"] == 8
    if trace:
        assert (answer["alignment"]["profile"], answer["alignment"]["outcome"]) == (profile, "ok")


def test_continuous_usage_counts_up(smollm2_url: str, profile: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = Chat(smollm2_url, profile, stream=True).reply(stream_options=options).events
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == 8
    assert len({chunk["usage"]["prompt_tokens"] for chunk in chunks}) == 1


# Sampling


def test_choices_differ_by_sampling_alone_and_repeat_with_their_seed(chat: Chat) -> None:
    def sample(seed: int) -> list[str]:
        digits = {"structured_outputs": {"regex": "[0-9]{6}"}}
        answer = chat.answer(n=3, temperature=2, seed=seed, max_tokens=12, **digits)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert answer["usage"]["completion_tokens"] >= 3 * 2
        texts: list[str] = [choice["message"]["content"] for choice in answer["choices"]]
        assert all(re.fullmatch("[0-9]{6}", text) for text in texts)
        return texts

    sample(0)  # from here on the prompt is cached, and the engine computes the same numbers each time
    first = sample(7)
    assert len(set(first)) > 1
    assert sample(7) == first
    assert sample(8) != first


@pytest.mark.parametrize(
    "fields", [{"min_p": 1.0}, {"top_k": 1}, {"top_p": 1e-6}], ids=lambda fields: next(iter(fields))
)
def test_filters_leave_the_likeliest_token(chat: Chat, token: Callable[[str], int], fields: Body) -> None:
    """Without them, all of many tokens are the likeliest one once in hundreds of times."""
    biases = {str(token(word)): 100 if word == " zebra" else 94 for word in ANIMALS}
    answer = chat.answer(n=4, temperature=2, seed=1, max_tokens=5, logit_bias=biases, **fields)
    assert {choice["message"]["content"] for choice in answer["choices"]} == {" zebra" * 5}


@pytest.mark.parametrize("way", ["logit_bias", "allowed_token_ids"])
def test_a_token_is_forced(chat: Chat, token: Callable[[str], int], way: str) -> None:
    forced = {"logit_bias": {str(token(" zebra")): 100}} if way == "logit_bias" else {way: [token(" zebra")]}
    assert chat.text(**forced, max_tokens=3) == " zebra zebra zebra"


def test_a_repetition_penalty_takes_what_was_said(chat: Chat, token: Callable[[str], int]) -> None:
    biases = {str(token(" zebra")): 100, str(token(" wolf")): 90}
    assert chat.text(logit_bias=biases, max_tokens=2) == " zebra zebra"
    assert chat.text(logit_bias=biases, max_tokens=2, repetition_penalty=2.0) == " zebra wolf"


def test_bad_words_are_not_said(chat: Chat, token: Callable[[str], int]) -> None:
    biases = {str(token(" wolf")): 100, str(token(" zebra")): 90}
    assert chat.text(logit_bias=biases, max_tokens=2, bad_words=["wolf"]) == " zebra zebra"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 2}, "greedy"),
        ({"temperature": 3}, "temperature"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 9}, "presence_penalty"),
        ({"logprobs": True, "top_logprobs": 999}, "logprobs"),
        ({"structured_outputs": {"regex": "["}}, ""),
        ({"min_tokens": 9}, "min_tokens"),
        ({"cache_salt": ""}, "cache_salt"),
    ],
    ids=str,
)
def test_the_engine_refuses_what_it_does_not_take(chat: Chat, off: Chat, fields: Body, words: str) -> None:
    error = chat.error(**fields)
    assert words in error["message"]
    if chat.profile == "default":
        assert error == off.error(**fields)


# The end of an answer


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"stop": "beta"}, "alpha ", "beta"),
        ({"stop": ["gamma", " beta"]}, "alpha", " beta"),
        ({"stop": ["x", "y", "gamma"]}, "alpha beta ", "gamma"),
        ({"stop": []}, "alpha beta gamma", None),
    ],
    ids=str,
)
def test_stop_strings_end_an_answer(chat: Chat, fields: Body, text: str, reason: str | None) -> None:
    choice = chat.choice(structured_outputs={"choice": ["alpha beta gamma"]}, max_tokens=16, **fields)
    assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == (text, "stop", reason)


def test_stop_token_ids_end_an_answer(chat: Chat, token: Callable[[str], int]) -> None:
    zebra = token(" zebra")
    choice = chat.choice(logit_bias={str(zebra): 100}, stop_token_ids=[zebra])
    assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == ("", "stop", zebra)


@pytest.mark.parametrize(
    ("fields", "num_tokens"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 4, "max_tokens": None}, 4),
        ({"max_completion_tokens": 4, "max_tokens": 3}, 4),
    ],
    ids=str,
)
def test_limits_end_an_answer(chat: Chat, animals: Body, fields: Body, num_tokens: int) -> None:
    answer = chat.answer(**animals, **fields)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == num_tokens
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + num_tokens


@pytest.mark.parametrize(
    ("fields", "num_tokens", "reason"),
    [({}, 1, "stop"), ({"min_tokens": 4}, 5, "stop"), ({"ignore_eos": True}, 8, "length")],
    ids=str,
)
def test_the_end_of_text_ends_an_answer(
    chat: Chat, token: Callable[[str], int], fields: Body, num_tokens: int, reason: str
) -> None:
    answer = chat.answer(logit_bias={str(token("<|im_end|>")): 100}, **fields)
    assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (num_tokens, reason)


# Log probabilities and token ids


@pytest.mark.parametrize("num_top", [0, 3])
def test_logprobs_align_with_the_text(chat: Chat, animals: Body, num_top: int) -> None:
    answer = chat.answer(logprobs=True, top_logprobs=num_top, **animals)
    (choice,) = answer["choices"]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"] == 8
    for entry in entries:
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert len(entry["top_logprobs"]) == num_top
    assert chat.choice()["logprobs"] is None


def test_logprobs_of_a_prompt_cover_it(smollm2_url: str, profile: str) -> None:
    chat = Chat(smollm2_url, profile)
    answer = chat.answer(prompt_logprobs=1, max_tokens=1)
    rows = answer["prompt_logprobs"]
    assert len(rows) == answer["usage"]["prompt_tokens"]
    assert rows[0] is None
    assert all(1 <= len(row) <= 2 for row in rows[1:])
    assert "prompt_logprobs" not in answer["choices"][0]
    assert "stream" in Chat(smollm2_url, profile, stream=True).error(prompt_logprobs=1)["message"]


def test_token_ids_are_given_back(chat: Chat, animals: Body, smollm2_tokenizer: ModelTokenizer) -> None:
    answer = chat.answer(return_token_ids=True, **animals)
    (choice,) = answer["choices"]
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]
    asked = {"model": SMOLLM2, "tokens": choice["token_ids"]}
    assert post(chat.url, "/detokenize", asked).body["prompt"] == choice["message"]["content"]


# Guided decoding


def is_city(text: str) -> bool:
    jsonschema.validate(json.loads(text), SCHEMA)
    return True


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"response_format": FORMAT}, is_city),
        ({"structured_outputs": {"json": SCHEMA}}, is_city),
        ({"response_format": {"type": "text"}, "structured_outputs": {"choice": ["red"]}}, re.compile("red").fullmatch),
        ({"structured_outputs": {"regex": "[0-9]{3}-[a-f]{2}"}}, re.compile("[0-9]{3}-[a-f]{2}").fullmatch),
        ({"structured_outputs": {"grammar": 'root ::= ("yes" | "no") "!"'}}, re.compile("(yes|no)!").fullmatch),
    ],
    ids=["json_schema", "json", "choice", "regex", "grammar"],
)
def test_an_answer_has_the_form_that_is_asked_for(chat: Chat, fields: Body, check: Check) -> None:
    choice = chat.choice(max_tokens=60, **fields)
    assert choice["finish_reason"] == "stop"
    assert check(choice["message"]["content"])


def test_a_json_object_is_one(chat: Chat, token: Callable[[str], int]) -> None:
    fields = {"response_format": {"type": "json_object"}, "logit_bias": {str(token("}")): 100}}
    assert json.loads(chat.text(**fields)) == {}


# Tools


@default_only
@pytest.mark.parametrize(
    ("choice", "reason"),
    [({"type": "function", "function": {"name": "show_city"}}, "stop"), ("required", "tool_calls")],
    ids=["named", "required"],
)
def test_a_tool_is_called_when_it_must_be(chat: Chat, choice: object, reason: str) -> None:
    tools = [STRICT_TOOL] if choice == "required" else [OTHER_TOOL, STRICT_TOOL]
    found = chat.choice(tools=tools, tool_choice=choice, max_tokens=80)
    (call,) = found["message"]["tool_calls"]
    assert (found["finish_reason"], found["message"]["content"], call["type"]) == (reason, "", "function")
    assert call["function"]["name"] == "show_city"
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)


@default_only
@pytest.mark.parametrize(("said", "num_calls"), [(CALL_TEXT, 1), ("none needed", 0)], ids=["called", "not called"])
def test_a_tool_is_called_when_the_model_wants_it(chat: Chat, said: str, num_calls: int) -> None:
    guided = {"structured_outputs": {"choice": [said]}}
    found = chat.choice(tools=[OTHER_TOOL, TOOL], tool_choice="auto", max_tokens=60, **guided)
    calls = found["message"].get("tool_calls") or []
    assert [call["function"]["name"] for call in calls] == ["show_city"] * num_calls
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Rome"}] * num_calls
    assert found["finish_reason"] == ("tool_calls" if num_calls else "stop")
    assert (found["message"]["content"] or "") == ("" if num_calls else said)


def test_no_tool_is_called_when_none_may_be(chat: Chat) -> None:
    guided = {"structured_outputs": {"choice": [CALL_TEXT]}}
    message = chat.choice(tools=[TOOL], tool_choice="none", max_tokens=60, **guided)["message"]
    assert not message.get("tool_calls")
    assert message["content"] == CALL_TEXT


@base_only
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "x"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "x"}]}, "messages[1]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0]",
        ),
        ({"include_stop_str_in_output": True}, "include_stop_str_in_output"),
        ({"stop": ["a", "b", "c", "d"]}, "stop"),
    ],
    ids=["tools", "required", "tool result", "late system message", "image", "shown fence", "too many stops"],
)
def test_a_base_model_is_refused_what_it_has_not(chat: Chat, fields: Body, param: str) -> None:
    error = chat.error(**fields)
    assert (error["code"], error["param"]) == ("invalid_value", param)


# Conversations


def num_turns(chat: Chat, sent: Body, tokenizer: ModelTokenizer) -> int:
    tokens = post(chat.url, "/tokenize", {**sent, "model": SMOLLM2}).body["tokens"]
    (start,) = tokenizer.encode("<|im_start|>")
    count: int = tokens.count(start)
    return count


@default_only
@whole_only
def test_calls_and_results_of_tools_stay_together(chat: Chat, smollm2_tokenizer: ModelTokenizer) -> None:
    history = [
        {"role": "user", "content": "Show a city."},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "shown"},
        {"role": "assistant", "content": "Here is Paris."},
        {"role": "user", "content": "How do I bake bread?"},
    ]
    asked = {"messages": history, "tools": [TOOL], "tool_choice": "none"}
    shown = chat.render(**asked)
    sent = shown["body"]["messages"]
    assert sent[-len(history) :] == history
    demonstrated = [message["role"] for message in sent[: -len(history)]]
    assert demonstrated == ["system", *["user", "assistant"] * len(shown["demonstrations"])]
    assert len(shown["demonstrations"]) == 4
    assert num_turns(chat, shown["body"], smollm2_tokenizer) == len(sent) + 1
    assert chat.answer(**asked)["usage"]["prompt_tokens"] == shown["tokens"]["prompt"]


@default_only
@whole_only
def test_system_messages_of_the_client_rank_below_the_constitution(chat: Chat) -> None:
    messages = [
        {"role": "developer", "content": "First of the developer."},
        {"role": "system", "content": [{"type": "text", "text": "Then of the system."}]},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Late words."},
        {"role": "user", "content": QUESTION},
    ]
    shown = chat.render(messages=messages)
    system = shown["body"]["messages"][0]
    assert system["role"] == "system"
    marks = ["Hold to these principles", "follow the instructions", "First of the developer.", "Then of the system."]
    places = [system["content"].index(mark) for mark in marks]
    assert places == sorted(places)
    assert shown["body"]["messages"][-3:] == messages[-3:]
    assert chat.answer(messages=messages)["usage"]["prompt_tokens"] == shown["tokens"]["prompt"]


@base_only
@whole_only
def test_a_conversation_becomes_blocks_of_one_text(chat: Chat) -> None:
    messages = [
        {"role": "developer", "content": "Words of the developer."},
        {"role": "user", "content": "A question."},
        {"role": "assistant", "content": "An answer."},
        {"role": "user", "content": QUESTION},
    ]
    shown = chat.render(messages=messages)
    prompt = shown["body"]["prompt"]
    marks = ["The assistant is helpful", "Words of the developer.", "A question.", "An answer.", QUESTION]
    places = [prompt.rindex(mark) for mark in marks]
    assert places == sorted(places)
    assert prompt.count("# Query:\n~~~~") == len(shown["demonstrations"]) + 2
    assert chat.answer(messages=messages)["usage"]["prompt_tokens"] == shown["tokens"]["prompt"]


def test_an_opened_answer_is_continued(chat: Chat) -> None:
    messages = [{"role": "user", "content": "Say a word."}, {"role": "assistant", "content": "The word is"}]
    fields = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    sent = chat.render(**fields)["body"]
    tokens = post(chat.url, "/tokenize", {**sent, "model": SMOLLM2}).body["tokens"]
    prompt = post(chat.url, "/detokenize", {"model": SMOLLM2, "tokens": tokens}).body["prompt"]
    assert prompt.endswith("The word is")
    answer = chat.answer(**fields, structured_outputs={"choice": [" zebra"]})
    assert answer["choices"][0]["message"]["content"] == " zebra"
    assert answer["usage"]["prompt_tokens"] == len(tokens)


@default_only
@whole_only
def test_what_a_chat_template_is_given_reaches_it(chat: Chat, off: Chat) -> None:
    usage = chat.answer(chat_template_kwargs={"enable_thinking": False})["usage"]
    assert usage["prompt_tokens"] == chat.answer()["usage"]["prompt_tokens"]
    # None of these replaces what alignment put before the message.
    template = "{{ messages[-1].content }}"
    for fields in ({"chat_template": template}, {"chat_template_kwargs": {"chat_template": template}}):
        assert "chat_template" in chat.error(**fields)["param"]
    refused: list[Body] = [
        {"chat_template_kwargs": {"messages": [{"role": "user", "content": "Hi"}]}},
        {"chat_template_kwargs": {"conversation": [{"role": "user", "content": "Hi"}]}},
        {"continue_final_message": True, "add_generation_prompt": True},
    ]
    for fields in refused:
        assert chat.error(**fields) == off.error(**fields)


@pytest.mark.parametrize("priority", [0, 1])
def test_priority_is_the_engines_own_affair(chat: Chat, off: Chat, priority: int) -> None:
    """vLLM says what it makes of one where it schedules by arrival."""
    assert chat.reply(priority=priority).status == off.reply(priority=priority).status


# Usage


def test_usage_counts_the_whole_prompt(chat: Chat, off: Chat) -> None:
    answer = chat.answer(alignment={"trace": True})
    num_tokens, trace = answer["usage"]["prompt_tokens"], answer["alignment"]
    shown = chat.render()
    assert num_tokens == shown["tokens"]["prompt"]
    assert num_tokens == post(chat.url, "/tokenize", {**shown["body"], "model": SMOLLM2}).body["count"]
    added = num_tokens - off.answer()["usage"]["prompt_tokens"]
    assert trace["tokens"]["alignment"] > 300
    if chat.profile == "default":
        # The model's template has a system text of its own, which alignment takes the place of.
        num_messages = len(shown["body"]["messages"])
        assert abs(added - trace["tokens"]["alignment"]) <= MESSAGE_TOKENS * num_messages
    else:
        assert abs(num_tokens - trace["tokens"]["alignment"] - trace["tokens"]["client"]) <= MESSAGE_TOKENS


def test_cached_tokens_are_passed_on_and_grow(chat: Chat) -> None:
    salt = uuid.uuid4().hex

    def cached_tokens(text: str) -> int:
        messages = [{"role": "user", "content": text}]
        usage = chat.answer(messages=messages, cache_salt=salt, max_tokens=1)["usage"]
        assert (usage["prompt_tokens_details"] or {}).get("cached_tokens", 0) < usage["prompt_tokens"]
        return (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0

    assert cached_tokens(QUESTION) == 0
    # Another question shares what is constant.
    constant = cached_tokens("What is the capital of Kazakhstan?")
    again = cached_tokens(QUESTION)
    assert 0 < constant < again
    assert constant % BLOCK_TOKENS == again % BLOCK_TOKENS == 0


# A prompt that does not fit

BREAD = "How do I bake bread at home?"
# The model counts two tokens, and what embeds the question for retrieval sees nothing.
SPACE = "\n \t"


def long_question(num_tokens: int) -> list[Body]:
    """A message of so many tokens, and a few more, for which the same is retrieved at any length."""
    return [{"role": "user", "content": BREAD + SPACE * (num_tokens // 2)}]


def ids(items: list[Body]) -> list[str]:
    return [item["id"] for item in items]


@whole_only
@pytest.mark.parametrize(
    ("num_client_tokens", "fields"),
    [(3300, {}), (3050, {"max_tokens": None})],
    ids=["long message", "no limit"],
)
def test_alignment_gives_way_where_it_does_not_fit(
    chat: Chat,
    token: Callable[[str], int],
    num_client_tokens: int,
    fields: Body,
) -> None:
    full = chat.render(messages=long_question(10))
    ends_at_once = {"logit_bias": {str(token("<|im_end|>")): 100}}
    asked = {"messages": long_question(num_client_tokens), "max_tokens": 8, **ends_at_once, **fields}
    answer = chat.answer(**asked, alignment={"trace": True})
    trace, num_tokens = answer["alignment"], answer["usage"]["prompt_tokens"]
    dropped = trace["dropped"]["demonstrations"]
    assert dropped
    assert [*dropped, *ids(trace["demonstrations"])] == ids(full["demonstrations"])
    assert trace["dropped"]["principles"] == []
    assert trace["principles"] == full["principles"]
    assert num_tokens + (256 if asked["max_tokens"] is None else 8) <= WINDOW_TOKENS
    assert trace["tokens"]["window"] == WINDOW_TOKENS
    assert chat.render(**asked)["tokens"]["prompt"] == num_tokens


@default_only
def test_a_large_limit_pushes_no_alignment_out(chat: Chat, token: Callable[[str], int]) -> None:
    ends_at_once = {"logit_bias": {str(token("<|im_end|>")): 100}}
    trace = chat.answer(max_tokens=WINDOW_TOKENS, **ends_at_once, alignment={"trace": True})["alignment"]
    assert "dropped" not in trace
    assert trace["demonstrations"]


@default_only
def test_a_prompt_that_fits_only_alone_goes_alone(chat: Chat, off: Chat, token: Callable[[str], int]) -> None:
    asked = {"messages": long_question(4030), "logit_bias": {str(token("<|im_end|>")): 100}}
    answer = chat.answer(**asked, alignment={"trace": True})
    assert answer["usage"]["prompt_tokens"] == off.render(**asked)["tokens"]["prompt"]
    trace = answer["alignment"]
    assert (trace["demonstrations"], trace["retrieved_principles"], trace["principles"]) == ([], [], [])
    assert trace["tokens"]["alignment"] == 0
    # Demonstrations go before principles, and of these the constitution last.
    full = chat.render(messages=long_question(10))
    retrieved = sorted(full["retrieved_principles"], key=lambda item: float(item["similarity"]))
    assert trace["dropped"]["demonstrations"] == ids(full["demonstrations"])
    assert trace["dropped"]["principles"][:2] == ids(retrieved)
    assert sorted(trace["dropped"]["principles"][2:]) == sorted(full["principles"])


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 4097}], ids=str)
def test_a_prompt_that_does_not_fit_gets_the_engines_error(chat: Chat, off: Chat, fields: Body) -> None:
    asked = fields or {"messages": long_question(4600)}
    error = chat.error(**asked)
    assert str(WINDOW_TOKENS) in error["message"]
    if chat.profile == "default":
        assert error == off.error(**asked)
