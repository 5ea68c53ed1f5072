"""The bodies of requests and answers, for the OpenAPI document only: nothing is validated with them.

They name what matters here and leave the rest open, since whatever else a client sends reaches the engine, and whatever
else the engine answers reaches the client.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.core.types import Obstacle, Placement, Reason, Rendering, Risk, Route
from server.profiles.resolve import AlignmentOptions


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


# Requests


class Asked(_Open):
    """What every request to the engine may have. Fields that are not listed reach the engine as they are."""

    model: str | None = Field(
        None, description="The model; `NAME:PROFILE` or `NAME:PROFILE@VERSION` chooses a profile too."
    )
    alignment: AlignmentOptions | None = Field(None, description="Chooses a profile and overrides it; stays here.")


class Part(_Open):
    """A piece of a message: text, an image, what a tool gave."""

    type: str = Field("text", description="What kind it is.")
    text: str = Field("", description="Its text, where it is of that kind.")


class Message(_Open):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = Field(None, description="The text, or a list of parts.")


class Generation(Asked):
    """What requests for an answer have in common."""

    stream: bool | None = Field(None, description="Answer in server-sent events as the text comes.")
    temperature: float | None = Field(None, description="Randomness; the profile's where it is left out.")
    top_p: float | None = Field(None, description="Share of the likeliest tokens to draw from.")


class _OpenAIGeneration(Generation):
    max_tokens: int | None = Field(None, description="Most tokens of the answer.")
    n: int | None = Field(None, description="How many answers.")
    seed: int | None = Field(None, description="Makes an answer repeatable.")
    stop: str | list[str] | None = Field(None, description="Texts that end the answer.")
    stream_options: dict[str, Any] | None = Field(None, description="`include_usage` adds a last chunk with counts.")


class _ChatOptions(_OpenAIGeneration):
    max_completion_tokens: int | None = Field(None, description="Most tokens of the answer; over `max_tokens`.")
    tools: list[dict[str, Any]] | None = Field(None, description="Functions that the model may call.")
    tool_choice: str | dict[str, Any] | None = Field(None, description="Whether it must call one, and which.")
    response_format: dict[str, Any] | None = Field(None, description="JSON, or JSON of a given schema.")


class ChatBody(_ChatOptions):
    """OpenAI's chat completion."""

    messages: list[Message] = Field(min_length=1, description="The conversation.")


class BatchBody(_ChatOptions):
    """vLLM's batch: several conversations, each with a choice of the answer."""

    messages: list[list[Message]] = Field(min_length=1, description="The conversations.")


class CompletionBody(_OpenAIGeneration):
    """OpenAI's completion. It is aligned only where a profile is named, or the default one says so."""

    prompt: str | list[str] | list[int] | list[list[int]] = Field(
        description="A text or several; token ids too where nothing is aligned."
    )


class InputItem(_Open):
    """A message, a call of a function, its output, or another item."""

    type: str = Field("message", description="Which of them.")


class ResponsesBody(Generation):
    """OpenAI's response."""

    input: str | list[InputItem] = Field(description="A text, or messages and other items.")
    instructions: str | None = Field(None, description="System text.")
    max_output_tokens: int | None = Field(None, description="Most tokens of the answer.")
    tools: list[dict[str, Any]] | None = Field(None, description="Functions that the model may call.")
    previous_response_id: str | None = Field(None, description="The response that this one continues.")


class CountTokensBody(Asked):
    """Anthropic's count of a request's tokens."""

    messages: list[Message] = Field(min_length=1, description="The conversation, users and assistants taking turns.")
    system: str | list[Part] | None = Field(None, description="System text, or blocks of it.")
    tools: list[dict[str, Any]] | None = Field(None, description="Functions that the model may call.")


class MessagesBody(Generation, CountTokensBody):
    """Anthropic's message."""

    max_tokens: int = Field(description="Most tokens of the answer.")


class TokenizeBody(Asked):
    """vLLM's tokenisation of a text, or of a conversation in the model's chat format."""

    prompt: str | None = Field(None, description="The text.")
    messages: list[Message] | None = Field(None, description="The conversation, in place of a text.")


class DetokenizeBody(Asked):
    """vLLM's text of token ids."""

    tokens: list[int] = Field(description="Token ids.")


class EmbeddingsBody(Asked):
    """OpenAI's embeddings."""

    input: str | list[str] | list[int] | list[list[int]] = Field(description="A text or several, or their token ids.")


# Answers


class Scored(_Open):
    """Something retrieved."""

    id: str
    similarity: float = Field(description="Cosine with the request.")


class ScoredDemonstration(Scored):
    """A demonstration retrieved."""

    risk: Risk


class Judged(Scored):
    """Something that was chosen or was not."""

    reason: Reason
    why: str = Field(description="The reason in words.")


class Neighbour(Judged, ScoredDemonstration):
    """A demonstration near to a text."""

    topic: str
    aspect: str
    user: str = Field(description="Its user message.")


class RiskNeighbour(Scored):
    """What decided the risk of a text: a demonstration by its id, or a message by its file, as `risk/NAME`."""

    harmful: bool = Field(description="Whether texts like it are risky.")
    user: str = Field(description="The message.")


class Selection(_Open):
    """What was chosen for one conversation, in the order of the prompt."""

    risk: float = Field(
        ge=0, le=1, description="Share of the harmless messages of risk/ whose neighbours look less harmful."
    )
    route: Route
    principles: list[str]
    retrieved_principles: list[Scored]
    pinned_demonstrations: list[str]
    demonstrations: list[ScoredDemonstration]
    reminder: str | None = Field(None, description="What stands after the client's message.")
    opening: str | None = Field(None, description="What the answer begins with.")
    opening_left_out: Obstacle | None = Field(None, description="Why it does not begin with its opening.")


class AlignmentTrace(_Open):
    """How a request was aligned. Without a selection where nothing was; of several conversations, in `prompts`."""

    trace_id: str
    outcome: Literal["ok", "error", "disconnected"]
    model: str | None
    profile: str | None = None
    version: str | None = Field(None, description="A hash of all that the profile holds.")
    rendering: Rendering | None = None
    placement: Placement | None = None
    key: str | None = Field(None, description="Name of the client's key.")
    risk: float | None = Field(None, description="As in a selection, and so are the next eight.")
    route: Route | None = None
    principles: list[str] | None = None
    retrieved_principles: list[Scored] | None = None
    pinned_demonstrations: list[str] | None = None
    demonstrations: list[ScoredDemonstration] | None = None
    reminder: str | None = None
    opening: str | None = None
    opening_left_out: Obstacle | None = None
    prompts: list[Selection] | None = None
    embedder: str | None = None
    tokens: dict[str, int | str | None] | None = Field(None, description="Alignment, client, window; who counted.")
    overrides: dict[str, Any] | None = None
    dropped: dict[str, list[str]] | None = Field(None, description="What gave way to the model's window, by kind.")
    usage: dict[str, Any] | None = Field(None, description="The engine's own counts.")
    timings_ms: dict[str, float] = Field(description="When each stage was complete, from the request's arrival.")


class Traced(_Open):
    """An answer of the engine, with all that it says."""

    alignment: AlignmentTrace | None = Field(None, description="Where `alignment.trace` was asked for.")


class Usage(_Open):
    """Counts of tokens."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None


class ChatMessage(_Open):
    """The model's turn."""

    role: str
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatChoice(_Open):
    """One answer."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None


class ChatAnswer(Traced):
    """OpenAI's chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class ChatDelta(_Open):
    """More of one answer."""

    index: int
    delta: dict[str, Any]
    finish_reason: str | None = None


class ChatChunk(Traced):
    """One event of a chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatDelta]
    usage: Usage | None = None


class CompletionChoice(_Open):
    """One answer, or more of it."""

    index: int
    text: str
    finish_reason: str | None = None


class CompletionAnswer(Traced):
    """OpenAI's completion, whole or one event of it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ResponsesAnswer(Traced):
    """OpenAI's response."""

    id: str
    object: Literal["response"]
    model: str
    status: str
    output: list[dict[str, Any]]


class MessagesAnswer(Traced):
    """Anthropic's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class NamedEvent(Traced):
    """One event of a response or message; its `type` is the event's name too."""

    type: str


class CountTokensAnswer(_Open):
    """Anthropic's count."""

    input_tokens: int


class TokenizeAnswer(_Open):
    """vLLM's tokens."""

    count: int
    tokens: list[int]
    max_model_len: int | None = None


class DetokenizeAnswer(_Open):
    """vLLM's text."""

    prompt: str


class Embedding(_Open):
    """One text's vector."""

    index: int
    embedding: list[float] | str = Field(description="Its numbers, or their bytes in base64.")


class EmbeddingsAnswer(_Open):
    """OpenAI's embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    usage: Usage | None = None


class AppliedProfile(_Open):
    """The profile that a model's name stands for."""

    profile: str
    version: str


class ModelEntry(_Open):
    """A model, bare or with a profile."""

    id: str
    object: str | None = None
    parent: str | None = Field(None, description="The bare model.")
    max_model_len: int | None = Field(None, description="Tokens of prompt and answer together.")
    alignment: AppliedProfile


class ModelList(_Open):
    """The engine's models, each bare and with each profile."""

    object: Literal["list"]
    data: list[ModelEntry]


class RenderAnswer(AlignmentTrace):
    """What the engine would get, and why."""

    endpoint: str = Field(description="The engine's.")
    body: dict[str, Any]
    tokens: dict[str, int | str | None] = Field(
        description="Those of the whole prompt too, from an engine that counts."
    )


class RetrieveAnswer(Selection):
    """What is chosen for a text, and what is nearest to it."""

    profile: str
    version: str
    embedder: str
    passage: str | None = Field(
        description="Of a long message, the part that decided the risk and was retrieved for; null if it was the whole."
    )
    judged_principles: list[Judged] = Field(
        description="All but the pinned, the highest weight times similarity first."
    )
    neighbours: list[Neighbour] = Field(description="Demonstrations of the bank, the nearest first.")
    risk_neighbours: list[RiskNeighbour] = Field(description="Those that decided the risk, the nearest first.")


class ProfilePrinciple(_Open):
    """One sentence of a constitution."""

    id: str
    text: str
    weight: float
    pinned: bool
    scope: dict[str, list[str]] = Field(description="For which values of each dimension it counts.")


class ProfileEntry(_Open):
    """A profile. Principles and demonstrations where `detail` was asked for."""

    id: str
    version: str = Field(description="A hash of all that it holds.")
    versions: list[str] = Field(description="Those that can be asked for as `id@version`, the one in force last.")
    description: str
    rendering: Rendering
    placement: Placement
    constitution: str | None
    num_principles: int
    num_demonstrations: int
    pinned: list[str]
    overridable: list[str]
    scope: dict[str, str] = Field(description="What is known of all its requests, by dimension.")
    sampling: dict[str, Any]
    principles: list[ProfilePrinciple] | None = None
    demonstrations: list[str] | None = None


class ProfileFinding(_Open):
    """A fault in a prompt file."""

    path: str
    line: int = Field(description="From 1; 0 where it is of the whole file.")
    field: str
    message: str
    mend: str
    rule: str
    severity: Literal["error", "warning"]


class ProfileList(_Open):
    """The profiles that the caller may ask for."""

    object: Literal["list"]
    default: str
    version: str = Field(description="A hash of the versions of all profiles.")
    loaded_at: int = Field(description="When they were loaded, in seconds since 1970.")
    findings: list[ProfileFinding] = Field(
        description="Why the files, as they lie there now, are not in force; for keys that are not bound to profiles."
    )
    data: list[ProfileEntry]


class StatusAnswer(_Open):
    """All is well."""

    status: Literal["ok", "ready"]


class EngineBody(Asked):
    """Whatever the engine takes there."""


class EngineAnswer(_Open):
    """Whatever the engine answers there."""


class Failure(_Open):
    """What was wrong."""

    message: str
    type: str | None = None
    param: str | None = Field(None, description="The field to mend.")
    code: str | int | None = None


class ErrorAnswer(_Open):
    """OpenAI's error."""

    error: Failure


class MessagesErrorAnswer(ErrorAnswer):
    """Anthropic's error, which is OpenAI's with a type."""

    type: Literal["error"] = Field("error", description="Missing where vLLM finds a field malformed.")
