"""The whole life of a request: resolve its profile, retrieve, render, run the engine, map the answer back, trace.

Read this file first. It turns an OpenAI request body into an OpenAI request body; HTTP is the business of api/.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache

import anyio.to_thread
import orjson
from jinja2 import Template

from server.core.errors import EngineError, InvalidRequestError
from server.core.types import Body, Demonstration, Profile, Rendering, Scored, Selection
from server.engine.base import Engine, EngineReply, EngineRequest
from server.engine.sse import parse_events
from server.profiles.resolve import Resolved, resolve, resolve_plain
from server.rendering.chat import render_chat
from server.rendering.completion import num_top_logprobs, render_completion, to_chat, to_chat_events
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
    async def answer(
        self, body: Body, headers: Mapping[str, str], trace: Trace, *, content: bytes
    ) -> AsyncIterator[Answer]:
        """Answer a chat request. Leaving the context early aborts it in the engine.

        `content` is what `body` was read from; it goes on byte for byte where nothing changes it. `headers` have
        lower-case names. Raises RequestError and EngineError; `trace` is filled in on every way out.
        """
        resolved = self.resolve(body, headers, trace)
        aligned = await self.align(resolved, trace)
        trace.mark("aligned")
        sent = content if aligned.body == body else _dump(aligned.body)
        request = EngineRequest(aligned.path, sent, headers=_engine_headers(headers))
        async with self.engine.open(request) as reply:
            yield await self._map_reply(reply, resolved, trace)

    @asynccontextmanager
    async def pass_through(self, request: EngineRequest) -> AsyncIterator[Answer]:
        """Hand `request` to the engine unaligned, and its answer back as it is. Raises RequestError and EngineError."""
        passed = replace(request, content=self._plain(request), headers=_engine_headers(request.headers))
        async with self.engine.open(passed) as reply:
            yield await _as_it_is(reply)

    @asynccontextmanager
    async def list_models(self, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """The engine's list of models, each entry followed by one for every profile. Raises EngineError."""
        request = EngineRequest("/v1/models", method="GET", headers=_engine_headers(headers))
        async with self.engine.open(request) as reply:
            if reply.status >= 300:
                yield await _as_it_is(reply)
            else:
                entries = _parse_models(await reply.read())
                models = [
                    self._model(entry, profile) for entry in entries for profile in (None, *self._profile_names())
                ]
                yield Answer(200, {}, body={"object": "list", "data": models})

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
        num_tokens = await self._count_prompt_tokens(aligned, headers)
        trace.outcome = "ok"
        prompt_tokens = {"prompt": num_tokens, **trace.tokens}
        return {"endpoint": aligned.path, "body": aligned.body, **trace.to_json(), "tokens": prompt_tokens}

    async def retrieve(self, query: str, profile: Profile, count: int) -> Body:
        """What retrieval chooses for `query`, and its `count` nearest demonstrations before quotas and budget."""
        retriever = self.prompts.retrievers[profile.id]
        selection = await anyio.to_thread.run_sync(retriever.retrieve, query, profile.retrieval)
        neighbours = await anyio.to_thread.run_sync(retriever.neighbours, query, count)
        return {
            "profile": profile.id,
            "version": profile.version,
            "embedder": self._embedder_name,
            **selection_json(selection),
            "neighbours": [_neighbour_json(scored) for scored in neighbours],
        }

    def _plain(self, request: EngineRequest) -> bytes:
        """The content without a choice of profile. Raises RequestError."""
        try:
            body = orjson.loads(request.content or b"{}")
        except ValueError as error:
            raise InvalidRequestError(f"The body is not JSON: {error}.") from error
        if not isinstance(body, dict):
            raise InvalidRequestError("The body must be a JSON object.")
        plain = resolve_plain(body, request.headers, self.prompts.profiles)
        return request.content if plain == body else _dump(plain)

    def _profile_names(self) -> list[str]:
        return sorted(self.prompts.profiles)

    def _model(self, entry: Body, profile: str | None) -> Body:
        applied = self.prompts.profiles[profile or self.prompts.default_profile]
        named = {**entry, "alignment": {"profile": applied.id, "version": applied.version}}
        return {**named, "id": f"{entry['id']}:{profile}", "parent": entry["id"]} if profile else named

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
        count = cache(self._tokenizer.count)  # most of the client's text is in both, and counting takes time
        client = sum(count(text_of(message)) for message in messages)
        texts = [aligned.body["prompt"]] if "prompt" in aligned.body else map(text_of, aligned.body["messages"])
        total = sum(count(text) for text in texts)
        return {"alignment": max(0, total - client), "client": client, "tokenizer": self._tokenizer.name}

    async def _count_prompt_tokens(self, aligned: Aligned, headers: Mapping[str, str]) -> int | None:
        """The exact length of the prompt, from an engine that offers vLLM's /tokenize; else None."""
        content = _dump({"add_generation_prompt": True, **aligned.body})
        try:
            async with self.engine.open(EngineRequest("/tokenize", content, headers=_engine_headers(headers))) as reply:
                answer = orjson.loads(await reply.read())
        except (EngineError, ValueError):
            return None
        count = answer.get("count") if isinstance(answer, dict) and reply.status == 200 else None
        return count if isinstance(count, int) else None

    async def _map_reply(self, reply: EngineReply, resolved: Resolved, trace: Trace) -> Answer:
        is_completion = resolved.profile.rendering is Rendering.COMPLETION
        if reply.status >= 300 or not (is_completion or resolved.wants_trace):
            return await _as_it_is(reply)
        headers = _answer_headers(reply)
        if reply.is_stream:
            events = parse_events(reply.chunks)
            events = to_chat_events(events, num_top=num_top_logprobs(resolved.body)) if is_completion else events
            events = _with_trace_event(events, trace) if resolved.wants_trace else events
            return Answer(reply.status, headers, events=events)
        body = _parse_body(await reply.read())
        body = to_chat(body, num_top=num_top_logprobs(resolved.body)) if is_completion else body
        if resolved.wants_trace:
            trace.mark("generated")
            trace.outcome = "ok"
            body["alignment"] = trace.to_json()
        return Answer(reply.status, headers, body=body)


async def _with_trace_event(events: AsyncIterator[Body], trace: Trace) -> AsyncIterator[Body]:
    """The events, then one without choices that carries the trace, as a usage chunk carries usage.

    An error ends the stream; nothing follows it.
    """
    last: Body = {}
    async for event in events:
        last = event
        yield event
    if last.get("error"):
        return
    trace.mark("generated")
    trace.outcome = "ok"
    head: Body = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
    yield {**head, "choices": [], "alignment": trace.to_json()}


def _engine_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _OWN_HEADERS}


async def _as_it_is(reply: EngineReply) -> Answer:
    """The engine's answer unchanged, except that an error is put into OpenAI's form where it has another."""
    headers = _answer_headers(reply)
    if 300 <= reply.status < 400:
        raise EngineError(f"The engine redirects (status {reply.status}); configure the URL it redirects to.")
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


def _dump(body: Body) -> bytes:
    """`body` as JSON. Raises InvalidRequestError where it is nested deeper than JSON is written here (254 levels)."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise InvalidRequestError(f"The body cannot be passed on: {error}.") from error


def _parse_models(content: bytes) -> list[Body]:
    entries = _parse_body(content).get("data")
    if not isinstance(entries, list) or not all(isinstance(e, dict) and isinstance(e.get("id"), str) for e in entries):
        raise EngineError("The engine's list of models is not in OpenAI's form.")
    return entries


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
