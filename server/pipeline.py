"""The whole life of a request: resolve its profile, retrieve, render, run the engine, map the answer back, trace.

Read this file first. It turns an OpenAI request body into an OpenAI request body; HTTP is the business of api/.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio.to_thread
import orjson
from jinja2 import Template

from server.core.errors import EngineError
from server.core.types import Body, Demonstration, Profile, Rendering, Scored, Selection
from server.engine.base import Engine, EngineReply, EngineRequest
from server.engine.sse import parse_events
from server.profiles.resolve import Resolved, resolve, resolve_plain
from server.rendering.chat import render_chat
from server.rendering.completion import render_completion, to_chat, to_chat_events
from server.rendering.messages import check_messages, query_of, text_of
from server.rendering.sanitise import Sanitiser
from server.rendering.tokens import Tokenizer
from server.retrieval.retriever import Retriever
from server.trace.record import Trace, selection_json

CHAT_PATH = "/v1/chat/completions"
COMPLETION_PATH = "/v1/completions"

# Names of the connection between client and server, or of this server's own surface; the engine gets all others.
_OWN_HEADERS = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding", "cookie", "expect"}
    | {"keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "x-alignment-profile"}
)
_PASSED_REPLY_HEADERS = (
    "content-type",
    "retry-after",
    "x-request-id",
    "x-ratelimit-",
    "openai-",
    "endpoint-load-metrics",
)


@dataclass(frozen=True)
class Prompts:
    """One consistent set of profiles with what is built from them: retrievers and compiled templates, by profile id."""

    profiles: Mapping[str, Profile]
    retrievers: Mapping[str, Retriever]
    templates: Mapping[str, Template]
    default_profile: str


@dataclass(frozen=True)
class Aligned:
    """A request ready for the engine: which endpoint, and the body it gets."""

    path: str
    body: Body


@dataclass(frozen=True)
class Answer:
    """What goes back to the client: a whole body, a stream passed through as bytes, or a stream of events made here."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Body | None = None
    chunks: AsyncIterator[bytes] | None = None
    events: AsyncIterator[Body] | None = None


class Pipeline:
    """Joins the stages. One instance serves all requests."""

    def __init__(self, engine: Engine, prompts: Prompts, tokenizer: Tokenizer, *, embedder_name: str) -> None:
        self.engine = engine
        self.prompts = prompts
        self._tokenizer = tokenizer
        self._sanitiser = Sanitiser(tokenizer.control_tokens)
        self._embedder_name = embedder_name

    @asynccontextmanager
    async def answer(self, body: Body, headers: Mapping[str, str], trace: Trace) -> AsyncIterator[Answer]:
        """Answer a chat request. Leaving the context early aborts it in the engine.

        `headers` have lower-case names. Raises RequestError and EngineError; `trace` is filled in on every way out.
        """
        resolved = self.resolve(body, headers, trace)
        aligned = await self.align(resolved, trace)
        trace.mark("aligned")
        request = EngineRequest(aligned.path, orjson.dumps(aligned.body), headers=_engine_headers(headers))
        async with self.engine.open(request) as reply:
            yield await self._map_reply(reply, resolved, trace)

    @asynccontextmanager
    async def pass_through(self, request: EngineRequest) -> AsyncIterator[Answer]:
        """Hand `request` to the engine unaligned, and its answer back as it is. Raises RequestError and EngineError."""
        passed = replace(request, content=self._plain(request), headers=_engine_headers(request.headers))
        async with self.engine.open(passed) as reply:
            yield await _as_it_is(reply)

    def resolve(self, body: Body, headers: Mapping[str, str], trace: Trace) -> Resolved:
        """Find the profile that `body` and `headers` ask for."""
        resolved = resolve(body, headers, self.prompts.profiles, self.prompts.default_profile)
        trace.profile, trace.overrides, trace.model = resolved.profile, resolved.overrides, resolved.body.get("model")
        return resolved

    async def align(self, resolved: Resolved, trace: Trace) -> Aligned:
        """Retrieve and render. Embedding and tokenising leave the event loop."""
        if resolved.profile.rendering is Rendering.NONE:
            return Aligned(CHAT_PATH, resolved.body)
        return await anyio.to_thread.run_sync(self._align, resolved, trace)

    async def preview(self, body: Body, headers: Mapping[str, str], trace: Trace) -> Body:
        """What the engine would get for `body`, with the trace of how it came about; nothing is generated."""
        aligned = await self.align(self.resolve(body, headers, trace), trace)
        num_tokens = await self._count_prompt_tokens(aligned)
        trace.outcome = "ok"
        prompt_tokens = {"prompt": num_tokens, **trace.tokens}
        return {"endpoint": aligned.path, "body": aligned.body, **trace.to_json(), "tokens": prompt_tokens}

    async def retrieve(self, query: str, profile: Profile, count: int) -> Body:
        """What retrieval chooses for `query`, and its `count` nearest demonstrations before quotas and budget."""
        retriever = self.prompts.retrievers[profile.id]
        selection = await anyio.to_thread.run_sync(retriever.retrieve, query)
        neighbours = await anyio.to_thread.run_sync(retriever.neighbours, query, count)
        return {
            "profile": profile.id,
            "version": profile.version,
            "embedder": self._embedder_name,
            **selection_json(selection),
            "neighbours": [_neighbour_json(scored) for scored in neighbours],
        }

    def _plain(self, request: EngineRequest) -> bytes:
        """The content without a choice of profile; what is not a JSON object is the engine's to refuse."""
        try:
            body = orjson.loads(request.content)
        except ValueError:
            return request.content
        if not isinstance(body, dict):
            return request.content
        plain = resolve_plain(body, request.headers, self.prompts.profiles)
        return request.content if plain == body else orjson.dumps(plain)

    def _align(self, resolved: Resolved, trace: Trace) -> Aligned:
        profile, body = resolved.profile, resolved.body
        messages = check_messages(body)
        selection = self.prompts.retrievers[profile.id].retrieve(query_of(messages), profile.retrieval)
        trace.selection, trace.embedder = selection, self._embedder_name
        aligned = self._render(profile, selection, body)
        trace.tokens = self._count_tokens(aligned, messages)
        return aligned

    def _render(self, profile: Profile, selection: Selection, body: Body) -> Aligned:
        template = self.prompts.templates[profile.id]
        if profile.rendering is Rendering.COMPLETION:
            return Aligned(COMPLETION_PATH, render_completion(profile, template, selection, body, self._sanitiser))
        return Aligned(CHAT_PATH, render_chat(profile, template, selection, body, self._sanitiser))

    def _count_tokens(self, aligned: Aligned, messages: Sequence[Body]) -> Body:
        """Tokens of the client's text and of what alignment adds, without what a chat format puts around messages."""
        client = sum(self._tokenizer.count(text_of(message)) for message in messages)
        texts = [aligned.body["prompt"]] if "prompt" in aligned.body else map(text_of, aligned.body["messages"])
        total = sum(self._tokenizer.count(text) for text in texts)
        return {"alignment": max(0, total - client), "client": client, "tokenizer": self._tokenizer.name}

    async def _count_prompt_tokens(self, aligned: Aligned) -> int | None:
        """The exact length of the prompt, from an engine that offers vLLM's /tokenize; else None."""
        content = orjson.dumps({"add_generation_prompt": True, **aligned.body})
        try:
            async with self.engine.open(EngineRequest("/tokenize", content)) as reply:
                answer = orjson.loads(await reply.read())
        except (EngineError, ValueError):
            return None
        count = answer.get("count") if isinstance(answer, dict) and reply.status == 200 else None
        return count if isinstance(count, int) else None

    async def _map_reply(self, reply: EngineReply, resolved: Resolved, trace: Trace) -> Answer:
        is_completion = resolved.profile.rendering is Rendering.COMPLETION
        if reply.status >= 400 or not (is_completion or resolved.wants_trace):
            return await _as_it_is(reply)
        headers, num_top_logprobs = _answer_headers(reply), resolved.body.get("top_logprobs") or 0
        if reply.is_stream:
            events = parse_events(reply.chunks)
            events = to_chat_events(events, num_top_logprobs=num_top_logprobs) if is_completion else events
            events = _with_trace_event(events, trace) if resolved.wants_trace else events
            return Answer(reply.status, headers, events=events)
        body = _parse_body(await reply.read())
        body = to_chat(body, num_top_logprobs=num_top_logprobs) if is_completion else body
        if resolved.wants_trace:
            trace.mark("generated")
            trace.outcome = "ok"
            body["alignment"] = trace.to_json()
        return Answer(reply.status, headers, body=body)


async def _with_trace_event(events: AsyncIterator[Body], trace: Trace) -> AsyncIterator[Body]:
    """The events, then one without choices that carries the trace, as a usage chunk carries usage."""
    last: Body = {}
    async for event in events:
        last = event
        yield event
    trace.mark("generated")
    trace.outcome = "ok"
    head: Body = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
    yield {**head, "choices": [], "alignment": trace.to_json()}


def _engine_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _OWN_HEADERS}


async def _as_it_is(reply: EngineReply) -> Answer:
    """The engine's answer unchanged, except that an error is put into OpenAI's form where it has another."""
    headers = _answer_headers(reply)
    if reply.status >= 400:
        headers["content-type"] = "application/json"
        return Answer(reply.status, headers, body=_openai_error(reply.status, await reply.read()))
    if reply.is_stream:
        return Answer(reply.status, headers, chunks=reply.chunks)
    return Answer(reply.status, headers, body=await reply.read())


def _answer_headers(reply: EngineReply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith(_PASSED_REPLY_HEADERS)}


def _openai_error(status: int, content: bytes) -> bytes | Body:
    """An engine's error as it is where it has OpenAI's form, else put into that form."""
    try:
        if isinstance(orjson.loads(content)["error"], dict):
            return content
    except (ValueError, KeyError, TypeError):
        pass
    shown = content[:500].decode("utf-8", "replace")
    message = f"The engine answered {status} without an error in OpenAI's form: {shown}"
    return {"error": {"message": message, "type": "engine_error", "param": None, "code": None}}


def _parse_body(content: bytes) -> Body:
    try:
        body = orjson.loads(content)
    except ValueError as error:
        raise EngineError("The engine's answer is not JSON.") from error
    if not isinstance(body, dict):
        raise EngineError("The engine's answer is not a JSON object.")
    return body


def _neighbour_json(scored: Scored[Demonstration]) -> Body:
    item = scored.item
    shown = {"id": item.id, "similarity": round(scored.similarity, 4), "risk": item.risk.value, "topic": item.topic}
    return shown | {"aspect": item.aspect, "user": item.user}
