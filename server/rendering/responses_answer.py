"""Maps a completion to an answer of `/v1/responses`: a response whose output is one message of text."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count

from server.core.types import Body
from server.rendering.completed import Completed, Usage, map_stream, read_completed

# A response says what it was made with. The client's own fields, and what they are where it gave none.
_SHOWN: Body = {
    **dict.fromkeys(("instructions", "metadata", "user", "text", "reasoning", "max_output_tokens", "max_tool_calls")),
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty", "prompt_cache_key")),
    "service_tier": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "tools": [],
}
# Nothing else would have been accepted.
_FIXED: Body = {"tool_choice": "none", "background": False, "previous_response_id": None, "error": None}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# The message is the whole output, and its text all that it holds.
_ITEM: Body = {"output_index": 0}
_PART: Body = {**_ITEM, "content_index": 0}


def to_response(body: Body, request: Body) -> Body:
    """A whole completion as the response to `request`, defaults filled in. Raises EngineError where it is none."""
    answer = read_completed(body)
    return _Responses(request).finished(answer)


async def to_response_events(events: AsyncIterator[Body], request: Body) -> AsyncIterator[Body]:
    """A completion stream as that of the response. An error event passes as it is. Raises EngineError."""
    numbers = count()
    async for event in map_stream(events, _Responses(request)):
        yield event if event.get("error") else {**event, "sequence_number": next(numbers)}


@dataclass(frozen=True)
class _Responses:
    """The events of a response to `request`."""

    request: Body

    def opening(self, answer: Completed) -> Sequence[Body]:
        response = self._response(answer, "in_progress", [])
        return [
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
            {"type": "response.output_item.added", **_ITEM, "item": _message(answer, "in_progress", [])},
            {"type": "response.content_part.added", **_PART, "item_id": _message_id(answer), "part": _part("")},
        ]

    def more(self, answer: Completed) -> Body:
        spot = {**_PART, "item_id": _message_id(answer)}
        return {"type": "response.output_text.delta", **spot, "delta": answer.text, "logprobs": []}

    def closing(self, answer: Completed) -> Sequence[Body]:
        """The last is `response.completed` for a cut answer too, as vLLM has it: clients wait for that one."""
        response, spot = self.finished(answer), {**_PART, "item_id": _message_id(answer)}
        return [
            {"type": "response.output_text.done", **spot, "text": answer.text, "logprobs": []},
            {"type": "response.content_part.done", **spot, "part": _part(answer.text)},
            {"type": "response.output_item.done", **_ITEM, "item": response["output"][0]},
            {"type": "response.completed", "response": response},
        ]

    def finished(self, answer: Completed) -> Body:
        reason = _INCOMPLETE.get(answer.finish_reason or "stop")
        status = "incomplete" if reason else "completed"
        response = self._response(answer, status, [_message(answer, status, [_part(answer.text)])])
        return response | {
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": _usage(answer.usage) if answer.usage else None,
        }

    def _response(self, answer: Completed, status: str, output: list[Body]) -> Body:
        given = {name: value for name, value in self.request.items() if name in _SHOWN and value is not None}
        head = {"id": f"resp_{answer.id}", "object": "response", "created_at": answer.created, "status": status}
        tail = {"model": answer.model, "output": output, "incomplete_details": None, "usage": None}
        return {**head, **tail, **_SHOWN, **given, **_FIXED}


def _message_id(answer: Completed) -> str:
    return f"msg_{answer.id}"


def _message(answer: Completed, status: str, content: list[Body]) -> Body:
    head = {"id": _message_id(answer), "type": "message", "role": "assistant"}
    return {**head, "status": status, "content": content}


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> Body:
    details = {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": usage.cache_write_tokens or 0}
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
