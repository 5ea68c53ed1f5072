"""Aligns one request: retrieve for each of its conversations, render, and give way where the prompt does not fit.

All of it is computation without waiting; the pipeline runs it in a worker thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import orjson

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering, Selection
from server.library import Ready
from server.profiles.resolve import Resolved
from server.rendering.chat import render_chat
from server.rendering.completion import render_completion
from server.rendering.fit import Fitted, fit, shed
from server.rendering.forms.base import Conversation, Form
from server.rendering.forms.registry import COMPLETION_PATH, FORMS
from server.rendering.messages import query_of, text_of
from server.rendering.openings import allow_opening
from server.rendering.sanitise import Sanitiser
from server.rendering.tokens import Tokenizer
from server.trace.record import Trace

# What a chat format puts around a message, and a template around all of them; on the safe side for the common ones.
_MESSAGE_OVERHEAD_TOKENS = 8
_PROMPT_OVERHEAD_TOKENS = 32
# What an answer needs at least, where the client does not say: alignment gives way before it starves the answer.
_ANSWER_TOKENS = 256

Count = Callable[[str], int]


@dataclass(frozen=True)
class Aligned:
    """A request ready for the engine: which endpoint, the body it gets, and what was chosen for each conversation."""

    path: str
    body: Body
    selections: Sequence[Selection] = ()


class Aligner:
    """Immutable; safe to share between threads."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        embedder_name: str,
        continues_messages: bool = False,
        sanitiser: Sanitiser | None = None,
    ) -> None:
        """`continues_messages` says whether the engine goes on with a chat's last message where that is an answer's.

        `sanitiser` is by default one for the tokenizer.
        """
        self.embedder_name = embedder_name
        self.tokenizer = tokenizer
        self._continues = continues_messages
        self._sanitiser = sanitiser or Sanitiser(tokenizer.control_tokens)

    def align(self, form: Form, resolved: Resolved, ready: Ready, window_tokens: int | None, trace: Trace) -> Aligned:
        """The request for the engine, within `window_tokens` where they are known. Raises InvalidRequestError."""
        profile = resolved.profile
        if profile.rendering not in form.renderings:
            raise InvalidRequestError(
                f"Profile {profile.id!r} has {profile.rendering.value} rendering, which {form.path} cannot carry; "
                f"name one with {' or '.join(sorted(form.renderings - {Rendering.NONE}))} rendering.",
                param="model",
            )
        conversations = form.read(resolved.body)
        selections = [self._select(form, resolved, ready, messages) for messages in conversations]
        aligned = self.render(form, resolved, ready, selections)
        count = cache(self.tokenizer.count)  # most of the client's text is counted twice, and counting takes time
        client = [_num_tokens(messages, count) for messages in conversations]
        if window_tokens is not None:
            aligned = self._fit(form, resolved, ready, aligned, client, window_tokens, count, trace)
        total = sum(_num_tokens(messages, count) for messages in conversations_of(form, aligned))
        trace.selections, trace.embedder = tuple(aligned.selections), self.embedder_name
        trace.tokens = {
            "alignment": max(0, total - sum(client)),
            "client": sum(client),
            "window": window_tokens,
            "tokenizer": self.tokenizer.name,
        }
        return aligned

    def shed(self, form: Form, resolved: Resolved, ready: Ready, aligned: Aligned, trace: Trace) -> Aligned | None:
        """The same request with one part of the alignment less, for an engine that found it too long.

        None where nothing that may go is left.
        """
        shorter = [shed(selection, resolved.profile) for selection in aligned.selections]
        if all(fitted is None for fitted in shorter):
            return None
        pairs = zip(shorter, aligned.selections, strict=True)
        fitted = [item if item is not None else Fitted(selection) for item, selection in pairs]
        _note(fitted, trace)
        trace.selections = tuple(item.selection for item in fitted)
        less = self.render(form, resolved, ready, trace.selections)
        total = sum(_num_tokens(messages, self.tokenizer.count) for messages in conversations_of(form, less))
        trace.tokens = {**trace.tokens, "alignment": max(0, total - trace.tokens["client"])}
        return less

    def render(
        self,
        form: Form,
        resolved: Resolved,
        ready: Ready,
        selections: Sequence[Selection],
        sanitiser: Sanitiser | None = None,
    ) -> Aligned:
        """The request with `selections`, whatever its length. Raises InvalidRequestError."""
        profile, body, template = resolved.profile, resolved.body, ready.template
        sanitiser = sanitiser or self._sanitiser
        if profile.rendering is Rendering.COMPLETION:
            prompt = render_completion(form, profile, template, selections, body, sanitiser)
            return Aligned(COMPLETION_PATH, prompt, selections)
        return Aligned(form.path, render_chat(form, profile, template, selections, body, sanitiser), selections)

    def _select(self, form: Form, resolved: Resolved, ready: Ready, messages: Conversation) -> Selection:
        selection = ready.retriever.retrieve(query_of(messages), resolved.profile)
        return allow_opening(
            selection, form, resolved.profile, resolved.body, messages, engine_continues=self._continues
        )

    def _fit(
        self,
        form: Form,
        resolved: Resolved,
        ready: Ready,
        aligned: Aligned,
        client_tokens: Sequence[int],
        window_tokens: int,
        count: Count,
        trace: Trace,
    ) -> Aligned:
        tools = count(orjson.dumps(resolved.body["tools"]).decode()) if resolved.body.get("tools") else 0
        excess = [
            tools
            + _num_tokens(messages, count)
            + _num_format_tokens(messages)
            + _num_answer_tokens(form, resolved.body, window_tokens - own)
            - window_tokens
            for messages, own in zip(conversations_of(form, aligned), client_tokens, strict=True)
        ]
        if max(excess) <= 0:
            return aligned
        pairs = zip(aligned.selections, excess, strict=True)
        fitted = [fit(selection, resolved.profile, tokens, count) for selection, tokens in pairs]
        _note(fitted, trace)
        return self.render(form, resolved, ready, [item.selection for item in fitted])


def conversations_of(form: Form, aligned: Aligned) -> list[Conversation]:
    """What of `aligned` is prompt, as chat messages; of a completion, one message that is the prompt."""
    return (FORMS[COMPLETION_PATH] if aligned.path == COMPLETION_PATH else form).read(aligned.body)


def _num_tokens(messages: Conversation, count: Count) -> int:
    """Tokens of the text and the tool calls in `messages`, without what a chat format puts around them."""
    calls = (str(message["tool_calls"]) for message in messages if message.get("tool_calls"))
    return sum(map(count, map(text_of, messages))) + sum(map(count, calls))


def _num_format_tokens(messages: Conversation) -> int:
    return _PROMPT_OVERHEAD_TOKENS + _MESSAGE_OVERHEAD_TOKENS * len(messages)


def _num_answer_tokens(form: Form, body: Body, left_tokens: int) -> int:
    """Tokens to keep free for the answer: what the client asks for and its own prompt leaves, up to a few.

    Not all that it asks for, or whoever asked for the whole window would get an answer without alignment: vLLM takes a
    limit up to the window for what is left of that.
    """
    limits = (body.get(field) for field in form.limit_fields)
    wanted = next((limit for limit in limits if isinstance(limit, int)), _ANSWER_TOKENS)
    return max(0, min(wanted, _ANSWER_TOKENS, left_tokens))


def _note(fitted: Sequence[Fitted], trace: Trace) -> None:
    """Record what gave way, beside what did before."""
    lost = {
        "demonstrations": [identifier for item in fitted for identifier in item.demonstrations],
        "principles": [identifier for item in fitted for identifier in item.principles],
    }
    if reminders := [route for item in fitted for route in item.reminders]:
        lost["reminders"] = reminders
    trace.dropped = {kind: [*trace.dropped.get(kind, ()), *ids] for kind, ids in lost.items()}
