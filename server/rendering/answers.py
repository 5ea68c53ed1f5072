"""Maps an engine's answer back to what the client asked for, where the two differ, and puts a trace into it."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from server.core.types import Body, Profile, Rendering, Selection
from server.rendering.completion import to_chat, to_chat_events
from server.rendering.forms.anthropic import AnthropicForm, stop_sequences
from server.rendering.forms.base import Form
from server.rendering.forms.chat import ChatForm, num_top_logprobs
from server.rendering.forms.responses import ResponsesForm
from server.rendering.messages import with_defaults
from server.rendering.messages_answer import to_message, to_message_events
from server.rendering.openings import openings_of
from server.rendering.responses_answer import to_response, to_response_events

_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


@dataclass(frozen=True)
class Answers:
    """How a whole answer and the events of a streamed one are mapped."""

    whole: Callable[[Body], Body]
    events: Callable[[AsyncIterator[Body]], AsyncIterator[Body]]


def answers_for(form: Form, profile: Profile, body: Body, selections: Sequence[Selection]) -> Answers | None:
    """The mapping for the client's request `body`; None where the engine's answer is the client's as it is.

    The openings of `selections`, one for each conversation, go into the engine's answer before all else.
    """
    mapped = _mapped(form, profile, body)
    openings = openings_of(selections, with_defaults(body, profile, form.limit_fields))
    if openings is None or mapped is None:
        return mapped if openings is None else Answers(openings.whole, openings.events)
    return Answers(
        lambda answer: mapped.whole(openings.whole(answer)), lambda events: mapped.events(openings.events(events))
    )


def _mapped(form: Form, profile: Profile, body: Body) -> Answers | None:
    if profile.rendering is Rendering.COMPLETION:
        return _of_completion(form, profile, body)
    if isinstance(form, ResponsesForm) and profile.rendering is Rendering.CHAT:
        instructions = body.get("instructions")
        return Answers(
            lambda answer: {**answer, "instructions": instructions}, lambda e: _with_instructions(e, instructions)
        )
    return None


def _of_completion(form: Form, profile: Profile, body: Body) -> Answers | None:
    if isinstance(form, ChatForm):
        num_top = num_top_logprobs(body)
        return Answers(lambda answer: to_chat(answer, num_top=num_top), lambda e: to_chat_events(e, num_top=num_top))
    if isinstance(form, ResponsesForm):
        request = with_defaults(body, profile, form.limit_fields)
        return Answers(lambda answer: to_response(answer, request), lambda e: to_response_events(e, request))
    if isinstance(form, AnthropicForm):
        stops = stop_sequences(body)
        return Answers(lambda answer: to_message(answer, stops), lambda e: to_message_events(e, stops))
    return None


async def with_trace(events: AsyncIterator[Body], trace: Callable[[], Body]) -> AsyncIterator[Body]:
    """The events with the trace in the last one: the usage chunk, or one more without choices as that is.

    Clients take usage from the last chunk, so none may follow it. Nothing follows an error either.
    """
    last: Body = {}
    held: Body | None = None
    async for event in events:
        if held is not None:
            yield held
        last, held = event, event if event.get("choices") == [] else None
        if held is None:
            yield _traced(event, trace)
    if last.get("error") or "type" in last:
        return
    head: Body = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
    yield {**(held or {**head, "choices": []}), "alignment": trace()}


def _traced(event: Body, trace: Callable[[], Body]) -> Body:
    """Events of a named type have no place for one more, so the one that ends the answer carries the trace."""
    kind = event.get("type")
    if kind in _RESPONSE_ENDS and isinstance(event.get("response"), dict):
        return {**event, "response": {**event["response"], "alignment": trace()}}
    return {**event, "alignment": trace()} if kind == "message_stop" else event


async def _with_instructions(events: AsyncIterator[Body], instructions: str | None) -> AsyncIterator[Body]:
    """Responses show the instructions they were made with: the client's own, not what they became."""
    async for event in events:
        if isinstance(event.get("response"), dict):
            yield {**event, "response": {**event["response"], "instructions": instructions}}
        else:
            yield event
