"""The whole life of a request: resolve its profile, retrieve, render, run the engine, map the answer back, trace.

Read this file first. It turns an OpenAI request body into an OpenAI request body; HTTP is the business of api/.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import anyio
import anyio.to_thread
import orjson

from server.aligner import Aligned, Aligner
from server.core.errors import EngineError, InvalidRequestError, MediaTypeError, NotOfferedError
from server.core.types import Body, Caller, Explanation, Profile, Rendering
from server.engine.base import Engine, EngineReply, EngineRequest
from server.engine.models import Windows, list_request, read_models
from server.engine.replies import once, openai_error, parse_answer, passed_headers, refuse_redirect, says_too_long
from server.engine.sse import parse_events
from server.library import Library, Prompts
from server.profiles.resolve import Resolved, default_for, may_ask, resolve, resolve_plain, split_model
from server.rendering.answers import answers_for, with_trace
from server.rendering.forms.base import Form
from server.rendering.forms.chat import ChatForm
from server.rendering.forms.registry import COMPLETION_PATH, FORMS
from server.trace.record import Trace, explanation_json

# Names of the connection between client and server, or of this server's own surface; the engine gets all others.
_OWN_HEADERS = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding", "cookie", "expect"}
    | {"keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "x-alignment-profile"}
)

# Whoever collects metrics waits for some ten seconds.
_METRICS_PATIENCE_S = 5.0


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

    def __init__(self, engine: Engine, library: Library, aligner: Aligner, *, window_tokens: int | None = None) -> None:
        """`window_tokens` is what the models take, for engines that do not say."""
        self.engine = engine
        self.library = library
        self._aligner = aligner
        self._windows = Windows(engine, configured=window_tokens)

    @asynccontextmanager
    async def answer(self, request: EngineRequest, caller: Caller, trace: Trace) -> AsyncIterator[Answer]:
        """Answer a request to an aligned endpoint. Leaving the context early aborts it in the engine.

        Its content goes on byte for byte where nothing changes it. Raises RequestError and EngineError; `trace` is
        filled in on every way out.
        """
        form, prompts = FORMS[request.path], self.library.current
        body, fault = _parse_content(request.content)
        resolved = resolve_for(form, body, caller, prompts, trace)
        if resolved is not None and resolved.profile.rendering is not Rendering.NONE:
            _check_is_json(caller, fault)
        aligned = await self.align(form, resolved, caller, prompts, trace) if resolved else Aligned(form.path, body)
        trace.mark("aligned")
        next_try: Aligned | None = aligned
        while next_try is not None:
            aligned, next_try = next_try, None
            content = request.content if aligned.body == body else dump_body(aligned.body)
            headers = _engine_headers(caller, None if aligned.selections else request)
            async with self.engine.open(EngineRequest(aligned.path, content, headers=headers)) as reply:
                if resolved is not None and reply.status >= 400:
                    content = await reply.read()
                    reply = replace(reply, chunks=once(content))
                    if aligned.selections and says_too_long(reply.status, content):
                        ready = prompts.ready[resolved.profile.label]
                        next_try = await anyio.to_thread.run_sync(
                            self._aligner.shed, form, resolved, ready, aligned, trace
                        )
                if next_try is None:
                    yield await self._map_reply(form, reply, resolved, aligned, trace)

    @asynccontextmanager
    async def pass_through(self, request: EngineRequest, caller: Caller) -> AsyncIterator[Answer]:
        """Hand `request` to the engine unaligned, and its answer back as it is. Raises RequestError and EngineError."""
        body, _ = _parse_content(request.content)
        plain = resolve_plain(body, caller, self.library.current.profiles)
        content = request.content if plain == body else dump_body(plain)
        passed = replace(request, content=content, headers=_engine_headers(caller, request))
        async with self.engine.open(passed) as reply:
            yield await _as_it_is(reply)

    @asynccontextmanager
    async def pass_unaligned(self, request: EngineRequest, caller: Caller, trace: Trace) -> AsyncIterator[Answer]:
        """`pass_through` for what generates. Raises NotOfferedError where the request's profile would align."""
        body, _ = _parse_content(request.content)
        resolved = resolve_for(FORMS[ChatForm.path], body, caller, self.library.current, trace)
        if resolved is not None and resolved.profile.rendering is not Rendering.NONE:
            raise NotOfferedError(request.path, profile=resolved.profile.id)
        async with self.pass_through(request, caller) as answer:
            yield answer

    @asynccontextmanager
    async def list_models(self, caller: Caller, asked: str = "") -> AsyncIterator[Answer]:
        """The engine's list of models, each entry followed by one for every profile. Raises EngineError.

        Versions are too many to list; where `asked` is a model with one, its entry follows too.
        """
        prompts = self.library.current
        async with self.engine.open(list_request(_engine_headers(caller))) as reply:
            if reply.status >= 300:
                yield await _as_it_is(reply)
            else:
                names = (None, *profile_names(caller, prompts), *_asked_version(asked, caller, prompts))
                models = [_model(entry, name, caller, prompts) for entry in await read_models(reply) for name in names]
                yield Answer(200, {}, body={"object": "list", "data": models})

    async def engine_metrics(self, caller: Caller) -> bytes:
        """The engine's metrics in the text format of Prometheus; nothing where it has none, or not soon."""
        # The other format of Prometheus ends with a mark, so that nothing could follow it.
        request = EngineRequest("/metrics", method="GET", headers=_engine_headers(caller) | {"accept": "text/plain"})
        with anyio.move_on_after(_METRICS_PATIENCE_S), suppress(EngineError):
            async with self.engine.open(request) as reply:
                is_text = reply.headers.get("content-type", "").startswith("text/plain")
                content = await reply.read() if reply.status == 200 and is_text else b""
                return content if content.endswith(b"\n") or not content else content + b"\n"
        return b""

    async def align(self, form: Form, resolved: Resolved, caller: Caller, prompts: Prompts, trace: Trace) -> Aligned:
        """Retrieve and render. Embedding and tokenising leave the event loop. Raises InvalidRequestError."""
        if resolved.profile.rendering is Rendering.NONE:
            return Aligned(form.path, resolved.body)
        window = await self._windows.of(resolved.body.get("model"), _engine_headers(caller))
        try:
            ready = prompts.ready[resolved.profile.label]
            return await anyio.to_thread.run_sync(self._aligner.align, form, resolved, ready, window, trace)
        except RecursionError as error:
            raise InvalidRequestError("The body is nested too deeply to be read.") from error

    async def preview(self, form: Form, body: Body, caller: Caller, trace: Trace) -> Body:
        """What the engine would get for `body`, with the trace of how it came about; nothing is generated."""
        prompts = self.library.current
        resolved = resolve_for(form, body, caller, prompts, trace)
        aligned = await self.align(form, resolved, caller, prompts, trace) if resolved else Aligned(form.path, body)
        num_tokens = await self._count_prompt_tokens(aligned, caller)
        trace.outcome = "ok"
        prompt_tokens = {"prompt": num_tokens, **trace.tokens}
        return {"endpoint": aligned.path, "body": aligned.body, **trace.to_json(), "tokens": prompt_tokens}

    async def retrieve(self, query: str, body: Body, count: int, caller: Caller, trace: Trace) -> Body:
        """What retrieval chooses for `query`, its `count` nearest demonstrations, and why it was those.

        `body` names the profile as a request would.
        """
        prompts = self.library.current
        resolved = resolve_for(FORMS[ChatForm.path], body, caller, prompts, trace)
        assert resolved is not None, "only completions may have no profile"
        explanation = await anyio.to_thread.run_sync(explain, query, count, resolved.profile, prompts)
        return explanation_json(explanation, resolved.profile, self._aligner.embedder_name)

    async def _count_prompt_tokens(self, aligned: Aligned, caller: Caller) -> int | None:
        """The exact length of the prompt, from an engine that offers vLLM's /tokenize; else None."""
        content = dump_body({"add_generation_prompt": True, **aligned.body})
        try:
            request = EngineRequest("/tokenize", content, headers=_engine_headers(caller))
            async with self.engine.open(request) as reply:
                answer = parse_answer(await reply.read())
        except EngineError:
            return None
        count = answer.get("count") if reply.status == 200 else None
        return count if isinstance(count, int) else None

    async def _map_reply(
        self, form: Form, reply: EngineReply, resolved: Resolved | None, aligned: Aligned, trace: Trace
    ) -> Answer:
        wants_trace = resolved is not None and resolved.wants_trace
        answers = answers_for(form, resolved.profile, resolved.body, aligned.selections) if resolved else None
        if reply.status >= 300 or not (answers or wants_trace):
            return await _as_it_is(reply)
        headers = passed_headers(reply)
        if reply.is_stream:
            events = parse_events(reply.chunks)
            events = answers.events(events) if answers else events
            events = with_trace(events, partial(_finished, trace)) if wants_trace else events
            return Answer(reply.status, headers, events=events)
        body = parse_answer(await reply.read())
        body = answers.whole(body) if answers else body
        trace.usage = body.get("usage")
        return Answer(reply.status, headers, body=body | {"alignment": _finished(trace)} if wants_trace else body)


def explain(query: str, count: int, profile: Profile, prompts: Prompts) -> Explanation:
    """What is chosen for `query` by `profile`, one of `prompts`, and why. Raises InvalidRequestError."""
    if not profile.demonstrations:
        raise InvalidRequestError(f"Profile {profile.id!r} has no bank to retrieve from.", param="alignment.profile")
    return prompts.ready[profile.label].retriever.explain(query, count, profile)


def profile_names(caller: Caller, prompts: Prompts) -> list[str]:
    """The profiles that `caller` may ask for."""
    return sorted(prompts.profiles.current if caller.profiles is None else caller.profiles)


def resolve_for(form: Form, body: Body, caller: Caller, prompts: Prompts, trace: Trace) -> Resolved | None:
    """Find the profile that `body` and `caller` ask for; None for plain completions."""
    resolved = resolve(body, caller, prompts.profiles, _default(form, caller, prompts))
    if resolved is not None:
        trace.profile, trace.overrides = resolved.profile, resolved.overrides
        trace.model = model if isinstance(model := resolved.body.get("model"), str) else None
    return resolved


def _default(form: Form, caller: Caller, prompts: Prompts) -> str | None:
    """The profile of requests that name none. Completions are plain unless the profile or the key says not."""
    name = default_for(caller, prompts.default_profile)
    is_plain = form.path == COMPLETION_PATH and caller.profiles is None
    return None if is_plain and not prompts.profiles.current[name].aligns_completions else name


def _asked_version(model: str, caller: Caller, prompts: Prompts) -> list[str]:
    """The `profile@version` that `model` ends with, if the caller may ask for it."""
    name = split_model(model, prompts.profiles)[1] or ""
    return [name] if "@" in name and may_ask(name, caller, prompts.profiles) else []


def _model(entry: Body, profile: str | None, caller: Caller, prompts: Prompts) -> Body:
    applied = prompts.profiles.get(profile or default_for(caller, prompts.default_profile))
    assert applied is not None, "names come from the profiles themselves"
    named = {**entry, "alignment": {"profile": applied.id, "version": applied.version}}
    return {**named, "id": f"{entry['id']}:{profile}", "parent": entry["id"]} if profile else named


def _parse_content(content: bytes) -> tuple[Body, InvalidRequestError | None]:
    """The JSON object in `content`, and what is wrong with it, if anything.

    Engines take more for JSON than the standard does (NaN, lone surrogates). What such a body says of its profile
    counts; it is only not written anew.
    """
    fault, body = None, None
    try:
        body = orjson.loads(content or b"{}")
    except ValueError as error:
        fault = InvalidRequestError(f"The body is not JSON: {error}.")
        with suppress(ValueError, RecursionError):
            body = json.loads(content)
    if not isinstance(body, dict):
        return {}, fault or InvalidRequestError("The body must be a JSON object.")
    return body, fault


def dump_body(body: Body) -> bytes:
    """`body` as JSON. Raises InvalidRequestError where it is nested deeper than JSON is written here (254 levels)."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise InvalidRequestError(f"The body cannot be passed on: {error}.") from error


def _check_is_json(caller: Caller, fault: InvalidRequestError | None) -> None:
    """Raise what is wrong with a body that alignment must read. What nothing here reads is the engine's to judge."""
    check_media_type(caller.headers.get("content-type", ""))
    if fault is not None:
        raise fault


def check_media_type(declared: str) -> None:
    """Raise MediaTypeError unless the content type `declared` is JSON's."""
    media_type = declared.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MediaTypeError(declared)


def _finished(trace: Trace) -> Body:
    trace.mark("generated")
    trace.outcome = "ok"
    return trace.to_json()


def _engine_headers(caller: Caller, passed: EngineRequest | None = None) -> dict[str, str]:
    """The headers for the engine. What is passed on unread keeps its content type, or that it has none."""
    headers = {name: value for name, value in caller.headers.items() if name not in _OWN_HEADERS}
    has_type = passed is not None and passed.content
    return headers | {"content-type": caller.headers.get("content-type", "")} if has_type else headers


async def _as_it_is(reply: EngineReply) -> Answer:
    """The engine's answer unchanged, except that an error is put into OpenAI's form where it has another."""
    refuse_redirect(reply)
    headers = passed_headers(reply)
    if reply.status >= 400:
        headers["content-type"] = "application/json"
        return Answer(reply.status, headers, body=openai_error(reply.status, await reply.read()))
    if reply.is_stream:
        return Answer(reply.status, headers, chunks=reply.chunks)
    return Answer(reply.status, headers, body=await reply.read())
