"""Small values for rendering tests."""

from pathlib import Path

from jinja2 import Template

from server.core.types import (
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
