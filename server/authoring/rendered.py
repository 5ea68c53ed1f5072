"""The prompt that the engine would get for a request, each piece with where it comes from and how long it is."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from server.aligner import Aligned, Aligner, conversations_of
from server.authoring.origins import (
    CLIENT,
    UNKNOWN,
    MarkingSanitiser,
    Marks,
    Origin,
    Source,
    Span,
    marking_template,
    sourced,
    unmarked,
)
from server.core.errors import InvalidRequestError
from server.core.types import Body, Caller, Demonstration, Principle, Profile, Rendering, Selection
from server.library import Prompts, Ready
from server.pipeline import resolve_for
from server.profiles.resolve import Resolved
from server.rendering.forms.base import Conversation, Form
from server.rendering.forms.registry import COMPLETION_PATH
from server.rendering.messages import text_of
from server.trace.record import Trace

Count = Callable[[str], int]


@dataclass(frozen=True)
class Message:
    """One message of the prompt; of a completion, the whole. `others` are its parts that are not text, by type."""

    role: str
    spans: tuple[Span, ...]
    others: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True)
class Rendered:
    """A request as the engine would get it at `path`. `profile` is None for completions that are not aligned.

    `selections` and `conversations` have one for each conversation of the request, the former only where it is aligned.
    """

    path: str
    body: Body
    profile: Profile | None
    selections: tuple[Selection, ...]
    conversations: tuple[tuple[Message, ...], ...]
    trace: Trace

    @property
    def messages(self) -> list[Message]:
        """Those of all conversations."""
        return [message for messages in self.conversations for message in messages]

    @property
    def demonstrations(self) -> list[Demonstration]:
        """Those in the prompt, pinned ones first."""
        return [
            item
            for selection in self.selections
            for item in (*selection.pinned, *(scored.item for scored in selection.demonstrations))
        ]

    @property
    def principles(self) -> list[Principle]:
        """Those in the prompt, pinned ones first."""
        return [
            item
            for selection in self.selections
            for item in (*selection.principles, *(scored.item for scored in selection.retrieved_principles))
        ]

    def num_tokens(self, count: Count) -> int:
        """Of all messages, without what a chat format puts around them."""
        return sum(count(message.text) for message in self.messages)

    def num_tokens_by_origin(self, count: Count) -> dict[Origin, int]:
        """Each piece counted by itself, so that they may make up a few more than the whole."""
        found = dict.fromkeys(Origin, 0)
        for message in self.messages:
            for span in message.spans:
                found[span.source.origin] += count(span.text)
        return {origin: tokens for origin, tokens in found.items() if tokens}


class Renderer:
    """Renders by the prompts of one folder, as the server does that serves them."""

    def __init__(self, prompts: Prompts, aligner: Aligner, *, window_tokens: int | None = None) -> None:
        """`window_tokens` is what the model takes, None where it is not known: then nothing gives way to it."""
        self.prompts = prompts
        self._aligner = aligner
        self._window_tokens = window_tokens

    def render(self, form: Form, body: Body) -> Rendered:
        """The request that the engine gets for `body`, sent to the endpoint of `form`. Raises RequestError."""
        trace = Trace()
        resolved = resolve_for(form, body, Caller(), self.prompts, trace)
        if resolved is None or resolved.profile.rendering is Rendering.NONE:
            passed = Aligned(form.path, resolved.body if resolved else body)
            return _rendered(passed, resolved, _as_it_is(form, passed), trace)
        ready = self.prompts.ready[resolved.profile.label]
        aligned = self._aligner.align(form, resolved, ready, self._window_tokens, trace)
        return _rendered(aligned, resolved, self._with_origins(form, resolved, ready, aligned), trace)

    def _with_origins(
        self, form: Form, resolved: Resolved, ready: Ready, aligned: Aligned
    ) -> list[tuple[Message, ...]]:
        marks = Marks()
        sanitiser = MarkingSanitiser(self._aligner.tokenizer.control_tokens, marks)
        marking = replace(ready, template=marking_template(ready.template, marks))
        selections = [sourced(selection) for selection in aligned.selections]
        marked = self._aligner.render(form, resolved, marking, selections, sanitiser)
        if unmarked(marked.body) != aligned.body:
            return _read(conversations_of(form, aligned), _all_of(UNKNOWN))
        return _read(conversations_of(form, marked), marks.spans)


def _rendered(
    aligned: Aligned, resolved: Resolved | None, conversations: Sequence[tuple[Message, ...]], trace: Trace
) -> Rendered:
    profile, selections = resolved.profile if resolved else None, tuple(aligned.selections)
    if aligned.path == COMPLETION_PATH:
        conversations = [tuple(replace(message, role="prompt") for message in messages) for messages in conversations]
    return Rendered(aligned.path, aligned.body, profile, selections, tuple(conversations), trace)


def _as_it_is(form: Form, passed: Aligned) -> list[tuple[Message, ...]]:
    """What reads as messages of a request that is not aligned; what it sends is between it and the engine."""
    with suppress(InvalidRequestError):
        return _read(conversations_of(form, passed), _all_of(CLIENT))
    return []


def _all_of(source: Source) -> Callable[[str], list[Span]]:
    return lambda text: [Span(source, text)] if text else []


def _read(conversations: Sequence[Conversation], spans: Callable[[str], list[Span]]) -> list[tuple[Message, ...]]:
    return [tuple(_message(message, spans) for message in messages) for messages in conversations]


def _message(message: Body, spans: Callable[[str], list[Span]]) -> Message:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    others = [str(part.get("type")) for part in parts if "text" not in part]
    others += ["tool_calls"] if message.get("tool_calls") else []
    return Message(message["role"], tuple(spans(text_of(message))), tuple(others))
