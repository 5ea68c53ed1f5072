"""Openings: the first words of an answer, given by a profile for a route, which the model continues.

Here is decided which answer can have one, and it is put in front of what the model says after it. Counts of tokens and
log probabilities stay the engine's: an opening is part of the prompt.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from server.core.types import Body, Obstacle, Profile, Rendering, Selection
from server.rendering.completed import engine_form
from server.rendering.forms.base import Conversation, Form
from server.rendering.forms.chat import tools_field
from server.rendering.messages import with_defaults

# What asks for another form of answer than free text, in vLLM's words of now and before and in other servers'.
_STRUCTURED = (
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("json_schema", "regex", "ebnf", "grammar"),
)
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def allow_opening(
    selection: Selection,
    form: Form,
    profile: Profile,
    body: Body,
    messages: Conversation,
    *,
    engine_continues: bool,
) -> Selection:
    """`selection` as it is where its opening can begin the answer to `messages`, else without it and with the reason.

    `engine_continues` says whether the engine goes on with a chat's last message; a completion always does.
    """
    if not selection.opening:
        return selection
    asked = with_defaults(body, profile, form.limit_fields)
    obstacles = {
        Obstacle.TOOLS: tools_field(asked) is not None,
        Obstacle.STRUCTURED_OUTPUT: _is_structured(asked),
        Obstacle.CLIENT_CONTINUES: bool(asked.get("continue_final_message")) or messages[-1]["role"] == "assistant",
        # What is made in the background is fetched from the engine as it is.
        Obstacle.ENDPOINT: profile.rendering is Rendering.CHAT
        and (not form.continues or bool(asked.get("background"))),
        Obstacle.ENGINE: profile.rendering is Rendering.CHAT and not engine_continues,
    }
    found = next((obstacle for obstacle, is_there in obstacles.items() if is_there), None)
    return replace(selection, opening="", obstacle=found) if found else selection


def openings_of(selections: Sequence[Selection], body: Body) -> "Openings | None":
    """Those of the conversations in `body`; None where no answer has one."""
    texts = [selection.opening for selection in selections]
    return Openings(texts, _num_choices(body)) if any(texts) else None


@dataclass(frozen=True)
class Openings:
    """One text for each conversation, which may be empty; each conversation has `num_choices` answers."""

    texts: Sequence[str]
    num_choices: int

    def whole(self, body: Body) -> Body:
        """A whole answer of the engine with the openings. Raises EngineError where it has not the form of one."""
        with engine_form():
            if "choices" not in body:
                return _with_output(body, self.texts[0])
            return {**body, "choices": [self._choice(choice, is_first=True) for choice in body["choices"]]}

    async def events(self, events: AsyncIterator[Body]) -> AsyncIterator[Body]:
        """A stream of the engine with the openings in the first event of each answer. Raises EngineError."""
        begun: set[int] = set()
        response = _ResponseEvents(self.texts[0])
        async for event in events:
            with engine_form():
                put = response.put(event) if "type" in event else self._event(event, begun)
            yield put

    def _event(self, event: Body, begun: set[int]) -> Body:
        if event.get("error") or not event.get("choices"):
            return event
        choices = [self._choice(choice, is_first=choice["index"] not in begun) for choice in event["choices"]]
        begun.update(choice["index"] for choice in choices)
        return {**event, "choices": choices}

    def _choice(self, choice: Body, *, is_first: bool) -> Body:
        opening = self.texts[choice["index"] // self.num_choices]
        choice = _with_offsets(choice, len(opening))
        if not is_first:
            return choice
        if "text" in choice:
            return {**choice, "text": opening + choice["text"]}
        field = "message" if "message" in choice else "delta"
        return {**choice, field: {**choice[field], "content": opening + (choice[field].get("content") or "")}}


class _ResponseEvents:
    """The events of one response: its first message begins with the opening, wherever its text is told."""

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._item: Any = None
        self._has_begun = False

    def put(self, event: Body) -> Body:
        """`event` with the opening, if its place is there."""
        kind = event["type"]
        if kind == "response.output_text.delta" and not self._has_begun:
            self._has_begun, self._item = True, event.get("item_id")
            return {**event, "delta": self._opening + event["delta"]}
        if kind in _ENDS:
            return {**event, "response": _with_output(event["response"], self._opening)}
        if not self._has_begun or event.get("item_id", event.get("item", {}).get("id")) != self._item:
            return event
        if kind == "response.output_text.done":
            return {**event, "text": self._opening + event["text"]}
        if kind == "response.content_part.done":
            return {**event, "part": _with_text(event["part"], self._opening)}
        if kind == "response.output_item.done":
            return {**event, "item": _with_content(event["item"], self._opening)}
        return event


def _with_output(response: Body, opening: str) -> Body:
    """A response with the opening in its first message."""
    output = response.get("output") or []
    first = next((index for index, item in enumerate(output) if item.get("type") == "message"), None)
    items = [_with_content(item, opening) if index == first else item for index, item in enumerate(output)]
    return {**response, "output": items} if items else response


def _with_content(item: Body, opening: str) -> Body:
    first, *rest = item["content"]
    return {**item, "content": [_with_text(first, opening), *rest]}


def _with_text(part: Body, opening: str) -> Body:
    return {**part, "text": opening + part["text"]} if "text" in part else part


def _with_offsets(choice: Body, num_chars: int) -> Body:
    """A completion's choice whose tokens say where in the text they are, now that `num_chars` stand before them."""
    logprobs = choice.get("logprobs")
    if not logprobs or not logprobs.get("text_offset"):
        return choice
    offsets = [offset + num_chars for offset in logprobs["text_offset"]]
    return {**choice, "logprobs": {**logprobs, "text_offset": offsets}}


def _num_choices(body: Body) -> int:
    """Answers to each conversation; engines take "2" for 2."""
    try:
        return max(1, int(body.get("n") or 1))
    except (TypeError, ValueError):
        return 1


def _is_structured(body: Body) -> bool:
    nested = (body.get(field) for field in ("text", "output_config"))
    formats = [value.get("format") for value in nested if isinstance(value, dict)]
    formats += [body.get("response_format"), body.get("output_format")]
    is_text = (isinstance(value, dict) and value.get("type") == "text" for value in formats if value)
    return any(body.get(field) for field in _STRUCTURED) or not all(is_text)
