"""The form of each prompt file. Unknown fields are refused, so that a typo shows at once."""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from server.core.types import Order, Part, Placement, Rendering, Risk, Route

SLUG_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN, max_length=80)]
SlugPattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9*?-]+$", max_length=80)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]
RouteText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Aspect = Literal["helpful", "honest", "harmless", "respectful"]
Overridable = Literal[
    "num_demonstrations", "num_principles", "budget_tokens", "min_similarity", "order", "placement", "scope"
]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PrincipleEntry(_File):
    """One normative sentence."""

    id: Slug
    """What traces call it; unique within the constitution."""
    text: Prose
    """The sentence, as the model reads it."""
    when: str = ""
    """In a few words, what requests it is for; retrieval compares with that. Of pinned principles, nothing."""
    weight: float = Field(default=1.0, gt=0, le=10)
    """Which goes first where several fit, and last where the prompt is too long."""
    aspect: Aspect
    """What it serves most."""
    pinned: bool = False
    """In every prompt, whatever the request."""
    routes: list[Route] = Field(default_factory=lambda: list(Route), min_length=1)
    """The routes on which it may be retrieved; all unless given."""
    scope: dict[Slug, Annotated[list[Slug], Field(min_length=1)]] = Field(default_factory=dict)
    """For which jurisdictions, products or the like it counts; left out where a request is known to be of another."""
    source: str | None = None
    """Where it comes from, if not from where the file says."""

    @model_validator(mode="after")
    def _check(self) -> "PrincipleEntry":
        if self.pinned and self.scope:
            raise ValueError("a pinned principle is in every prompt, so it can have no scope")
        return self


class ConstitutionFile(_File):
    """An ordered, weighted set of principles: constitutions/*.yaml."""

    id: Slug
    """The file's name without .yaml."""
    description: Prose
    """Whom or what it is for, in a sentence."""
    source: Prose
    """Who wrote it, or what it follows."""
    principles: list[PrincipleEntry] = Field(min_length=1)
    """In the order in which prompts have them."""


class ExchangeEntry(_File):
    """An earlier exchange of a demonstration's conversation."""

    user: Prose
    assistant: Prose


class DemonstrationEntry(_File):
    """One exchange shown in context."""

    id: Slug
    """What traces and contrasts call it; unique in the whole folder."""
    topic: Slug | None = None
    """What it is about; the file's id unless given."""
    aspect: Aspect
    """What it shows most."""
    risk: Risk
    """What the user's message is: benign, sensitive, lookalike (harmless despite its words) or harmful."""
    language: Language = "en"
    """BCP-47 tag, such as de or pt-BR."""
    history: list[ExchangeEntry] = Field(default_factory=list, max_length=16)
    """The exchanges before this one, oldest first, where it is the last of a conversation."""
    user: Prose
    """The message; requests are compared with it."""
    assistant: Prose
    """The answer to imitate."""
    contrast: Slug | None = None
    """Of look-alikes: the id of the harmful demonstration that they resemble."""
    source: str | None = None
    """Where it comes from, if not from where the file says."""


class BankFile(_File):
    """One topic of the bank: demonstrations/*.yaml, or *.jsonl with one demonstration on each line."""

    id: Slug
    """The file's name without .yaml."""
    description: Prose
    """What it holds, in a sentence."""
    source: Prose
    """Who wrote it, or what it follows."""
    demonstrations: list[DemonstrationEntry] = Field(min_length=1)
    """In any order; profiles with order canonical show them in this one."""


class RiskFile(_File):
    """Messages by which the risk of a request is judged, of one subject: risk/*.yaml. No prompt shows them."""

    id: Slug
    """The file's name without .yaml."""
    description: Prose
    """What they are about, in a sentence."""
    source: Prose
    """Who wrote them, or what they follow."""
    harmful: list[Prose] = Field(default_factory=list)
    """What an assistant should decline."""
    harmless: list[Prose] = Field(default_factory=list)
    """What it should answer, whatever it sounds like."""

    @model_validator(mode="after")
    def _check(self) -> "RiskFile":
        if not self.harmful and not self.harmless:
            raise ValueError("needs a message under harmful or harmless")
        return self


class RetrievalEntry(_File):
    """How demonstrations and principles are chosen."""

    num_demonstrations: int = Field(default=3, ge=0, le=64)
    """At most so many are retrieved."""
    budget_tokens: int = Field(default=1000, ge=0, le=1_000_000)
    """Tokens for pinned and retrieved demonstrations together."""
    mmr_lambda: float = Field(default=0.7, ge=0, le=1)
    """1 takes the most similar, whatever they share; less prefers variety."""
    min_similarity: float = Field(default=0.1, ge=-1, le=1)
    """Demonstrations further from the request than this are left out."""
    num_principles: int = Field(default=2, ge=0, le=32)
    """At most so many principles are retrieved beside the pinned ones."""
    num_neighbours: int = Field(default=8, ge=1, le=64)
    """Neighbours that decide the risk, among demonstrations and the messages of risk/."""
    thresholds: tuple[float, float] = (0.35, 0.6)
    """Risk, 0 to 1, at which the elevated and the high route begin. Of harmless messages, 5 % reach 0.95."""
    quotas: dict[Route, dict[Risk, Annotated[int, Field(ge=0, le=64)]]] = Field(default_factory=dict)
    """For each route, how many retrieved demonstrations of each risk a prompt may hold; of risks not named, none."""
    order: Order = Order.NEAREST_LAST
    """nearest_last or nearest_first by similarity, or canonical: as the bank has them, to share cached prefixes."""

    @model_validator(mode="after")
    def _check(self) -> "RetrievalEntry":
        if not 0 <= self.thresholds[0] <= self.thresholds[1] <= 1:
            raise ValueError("thresholds must rise from 0 to 1: [elevated, high]")
        if self.num_demonstrations and (missing := [route.value for route in Route if route not in self.quotas]):
            raise ValueError(f"quotas must name every route; missing: {', '.join(missing)}")
        return self


class ProfileFile(_File):
    """What is applied to a request: profiles/*.yaml. Rendering none passes requests through and takes nothing else."""

    id: Slug
    """The file's name without .yaml; clients ask for it by this."""
    extends: Slug | None = None
    """A profile that this one starts from: mappings are merged, null removes, everything else is replaced."""
    description: Prose
    """Whom or what it is for, in a sentence; clients see it in the list of profiles."""
    rendering: Rendering
    """chat for models with a chat template, completion for base models, none for no alignment."""
    placement: Placement = Placement.TURNS
    """Of chat rendering: demonstrations as turns before the client's, or inside the system text."""
    constitution: Slug | None = None
    """The file of constitutions/ with its principles."""
    demonstrations: list[SlugPattern] = Field(default_factory=list)
    """Files of the bank to retrieve from; patterns such as harm-* take all that match."""
    risk: list[SlugPattern] = Field(default_factory=list)
    """Files of risk/ whose messages decide the risk beside demonstrations; patterns such as * take all that match."""
    pinned: list[Slug] = Field(default_factory=list)
    """Demonstrations in every prompt, by id."""
    template: Slug | None = None
    """The file of templates/ that writes its prompt."""
    retrieval: RetrievalEntry = Field(default_factory=lambda: RetrievalEntry(num_demonstrations=0))
    """How demonstrations and principles are chosen; unless given, only principles are."""
    scope: dict[Slug, Slug] = Field(default_factory=dict)
    """What is known of all its requests, such as `jurisdiction: eu`; principles for another value are left out."""
    sampling: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of the request to the engine, where the client gives none."""
    overridable: list[Overridable] = Field(default_factory=list)
    """What a request may set for itself."""
    shrinks: list[Part] = Field(default_factory=lambda: list(Part))
    """What gives way where the prompt does not fit the model."""
    reminders: dict[Route, RouteText] = Field(default_factory=dict)
    """By route: a sentence or two that stand right after the client's last message."""
    openings: dict[Route, RouteText] = Field(default_factory=dict)
    """By route: the first words of the answer, which the model is made to continue; it brings the space after them."""
    aligned_routes: list[Route] = Field(default_factory=lambda: list(Route), min_length=1)
    """The routes whose requests are aligned; all unless given. Others get `sampling`, and a base model its template."""
    aligns_completions: bool = False
    """Whether plain completions get this profile too, when it is the default."""

    @model_validator(mode="after")
    def _check(self) -> "ProfileFile":
        if self.rendering is Rendering.NONE:
            given = self.model_fields_set - {"id", "extends", "description", "rendering"}
            if given:
                raise ValueError(f"rendering none takes no other fields; remove {', '.join(sorted(given))}")
            return self
        if self.template is None or self.constitution is None:
            raise ValueError("a rendering needs a template and a constitution")
        if reserved := {"alignment", "messages", "model", "prompt", "stream"} & self.sampling.keys():
            raise ValueError(f"sampling cannot set {', '.join(sorted(reserved))}")
        _check_json(self.sampling)
        if len(set(self.pinned)) < len(self.pinned):
            raise ValueError("pinned names a demonstration twice")
        if self.aligns_completions and self.rendering is not Rendering.COMPLETION:
            raise ValueError("aligns_completions needs rendering completion")
        if self.rendering is Rendering.COMPLETION and not isinstance(self.sampling.get("max_tokens"), int):
            raise ValueError(
                "completion rendering needs sampling.max_tokens, since the completions endpoint stops at 16"
            )
        return self


class MessageEntry(_File):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who says it."""
    content: Prose
    """What is said."""


class Listed(_File):
    """What a list holds and what it does not."""

    includes: list[str] = Field(default_factory=list)
    """All of these."""
    any_of: list[str] = Field(default_factory=list)
    """At least one of these."""
    lacks: list[str] = Field(default_factory=list)
    """None of these."""


class Bounds(_File):
    """From and to, both included."""

    at_least: int = Field(default=0, ge=0)
    """The smallest that is right."""
    at_most: int | None = Field(default=None, ge=0)
    """The largest that is right; any unless given."""


class AnswerExpectation(_File):
    """What an engine's answer is like; looked at only where an engine is given."""

    refuses: bool | None = None
    """true for an answer that begins with a refusal, false for one that does not."""
    contains: list[str] = Field(default_factory=list)
    """Texts that are in it, in capitals or not."""
    lacks: list[str] = Field(default_factory=list)
    """Texts that are not in it, in capitals or not."""
    json_schema: dict[str, JsonValue] | None = None
    """The answer is JSON of this schema (draft 2020-12)."""


class Expectation(_File):
    """What is expected; whatever is not named may be as it will."""

    routes: list[Route] = Field(default_factory=list)
    """The route is one of these."""
    demonstrations: Listed = Field(default_factory=Listed)
    """Ids of the demonstrations in the prompt, pinned ones included."""
    topics: Listed = Field(default_factory=Listed)
    """Their topics."""
    risks: Listed = Field(default_factory=Listed)
    """Their risks."""
    languages: Listed = Field(default_factory=Listed)
    """Their languages."""
    principles: Listed = Field(default_factory=Listed)
    """Ids of the principles in the prompt, pinned ones included."""
    tokens: Bounds = Field(default_factory=Bounds)
    """What alignment adds to the request, by the tokenizer in use."""
    prompt: Listed = Field(default_factory=Listed)
    """Texts in the prompt, word for word."""
    answer: AnswerExpectation | None = None
    """What an engine says to it."""

    @model_validator(mode="after")
    def _check(self) -> "Expectation":
        if not self.model_fields_set:
            raise ValueError("expects nothing, so the test could not fail")
        return self


class PromptTestEntry(_File):
    """A request, and what is expected of the prompt made for it."""

    id: Slug
    """What reports call it."""
    profiles: list[Slug] = Field(min_length=1)
    """Tried with each of them."""
    message: Prose | None = None
    """The user's message."""
    messages: list[MessageEntry] = Field(default_factory=list)
    """A whole conversation, in place of a message."""
    system: Prose | None = None
    """The client's system text."""
    scope: dict[Slug, Slug] = Field(default_factory=dict)
    """What the request says of itself, such as `jurisdiction: eu`."""
    request: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of the request, such as `max_tokens` or `response_format`."""
    expect: Expectation
    """What the prompt must hold, and what the answer must be like."""

    @model_validator(mode="after")
    def _check(self) -> "PromptTestEntry":
        if (self.message is None) == (not self.messages):
            raise ValueError("needs a message or messages, and not both")
        return self


class PromptTestFile(_File):
    """Prompt tests of one subject: tests/*.yaml."""

    id: Slug
    """The file's name without .yaml."""
    description: Prose
    """What they are about."""
    tests: list[PromptTestEntry] = Field(min_length=1)
    """The tests, in the order of reports."""


def _check_json(value: object) -> None:
    """Raise ValueError for numbers that JSON, as it is written here, cannot hold."""
    try:
        written = orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"sampling cannot be written as JSON: {error}") from error
    if orjson.loads(written) != value:
        raise ValueError("sampling holds a number that JSON does not have, such as .nan or .inf")
