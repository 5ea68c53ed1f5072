"""Small values for rendering tests."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
from jinja2 import Template

from server.core.types import (
    Body,
    Constitution,
    Demonstration,
    Placement,
    Principle,
    Profile,
    Rendering,
    Retrieval,
    Risk,
    Route,
    Scored,
    Selection,
)
from server.rendering.environment import compile_template

PROMPTS = Path(__file__).parents[2] / "prompts"


def make_principle(identifier: str, text: str, *, pinned: bool = True) -> Principle:
    return Principle(identifier, text, "", 1.0, "helpful", pinned, frozenset(Route), "a test")


def make_demonstration(identifier: str, user: str, assistant: str, risk: Risk = Risk.BENIGN) -> Demonstration:
    return Demonstration(identifier, "topic", "helpful", risk, user, assistant, "a test")


def make_profile(rendering: Rendering, placement: Placement = Placement.TURNS) -> Profile:
    name = "completion" if rendering is Rendering.COMPLETION else "chat"
    return Profile(
        id="test",
        version="0",
        description="",
        rendering=rendering,
        placement=placement,
        constitution=Constitution("c", ()),
        demonstrations=(),
        pinned=(),
        retrieval=Retrieval(0, 0, 0.7, 0.0, 0, 8, (0.4, 0.6), {}),
        template=(PROMPTS / "templates" / f"{name}.jinja").read_text("utf-8"),
        template_id=name,
        sampling={"temperature": 0.5, "max_tokens": 64},
    )


def make_template(profile: Profile) -> Template:
    return compile_template(profile.template, profile.template_id)


SELECTION = Selection(
    risk=0.1,
    route=Route.LOW,
    principles=(make_principle("kind", "Be kind."), make_principle("clear", "Be clear.")),
    retrieved_principles=(Scored(make_principle("sums", "Check sums.", pinned=False), 0.4),),
    pinned=(make_demonstration("first", "Is it raining?", "I can't see outside."),),
    demonstrations=(Scored(make_demonstration("second", "2 + 2?", "4"), 0.5),),
)

COMPLETION_USAGE: Body = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def make_completion(text: str, finish_reason: str | None = "stop", stop_reason: object = None) -> Body:
    """A whole completion of one choice."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "stop_reason": stop_reason}
    return {**_COMPLETION_HEAD, "choices": [choice], "usage": COMPLETION_USAGE}


def make_completion_events(*texts: str, finish_reason: str = "stop", stop_reason: object = None) -> list[Body]:
    """The same in pieces, the last of which comes with the reason why it ended; usage follows them."""
    pieces = [make_completion(text, None) for text in texts[:-1]]
    pieces.append(make_completion(texts[-1], finish_reason, stop_reason))
    return [{**piece, "usage": None} for piece in pieces] + [
        {**_COMPLETION_HEAD, "choices": [], "usage": COMPLETION_USAGE}
    ]


def mapped(mapping: Callable[[AsyncIterator[Body]], AsyncIterator[Body]], events: list[Body]) -> list[Body]:
    """What `mapping` makes of `events`."""

    async def source() -> AsyncIterator[Body]:
        for event in events:
            yield event

    async def collect() -> list[Body]:
        return [event async for event in mapping(source())]

    return anyio.run(collect)


_COMPLETION_HEAD: Body = {"id": "cmpl-7", "object": "text_completion", "created": 5, "model": "m"}
