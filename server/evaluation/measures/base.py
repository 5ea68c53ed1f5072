"""What a measure is: tasks to ask a server, each under every arm, and the figures that come of the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from server.evaluation.arms import Arm
from server.evaluation.datasets import Attack, Label, Message, Prompt

Unit = Literal["share", "tokens", "words", "ms", "calls", "nats"]


@dataclass(frozen=True)
class Figure:
    """A number that rows have under `name` in their values, and that is averaged over them.

    `higher_is_better` is None where neither is.
    """

    name: str
    title: str
    unit: Unit
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class Plan:
    """What to ask: `count` prompts of each set at most, drawn by `seed`; None takes all.

    `data` is the folder of public sets. Without `sets`, each measure takes its own: public ones where there is a
    folder, fixtures elsewhere. `max_tokens` goes over what a measure lets an answer have.
    """

    data: Path | None = None
    sets: Sequence[str] = ()
    count: int | None = None
    seed: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True)
class Sets:
    """The sets that a measure takes unless told otherwise, and `further` ones that it also can."""

    public: tuple[str, ...]
    fixtures: tuple[str, ...]
    further: tuple[str, ...] = ()

    @property
    def known(self) -> frozenset[str]:
        """All that it can take."""
        return frozenset((*self.public, *self.fixtures, *self.further))

    def chosen(self, plan: Plan) -> tuple[str, ...]:
        """Those to ask by `plan`."""
        if plan.sets:
            return tuple(name for name in plan.sets if name in self.known)
        return self.fixtures if plan.data is None else self.public


@dataclass(frozen=True)
class Task:
    """One thing to ask under every arm. `set`, `id` and `variant` together are unique within a measure.

    `messages` are what is sent; `prompt` is the row of the data set that they come from, and `attack` what is around
    it.
    """

    measure: str
    set: str
    id: str
    messages: tuple[Message, ...]
    variant: str = ""
    label: Label | None = None
    kind: str = ""
    prompt: Prompt | None = None
    attack: Attack | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Applied:
    """What a server says it did to a request: ids in prompt order, and `tokens` of the trace. All empty for `off`.

    `profile` is a label, `id@version`. `aligning_ms` is how long choosing and rendering took.
    """

    profile: str = ""
    route: str | None = None
    risk: float | None = None
    chosen: tuple[str, ...] = ()
    principles: tuple[str, ...] = ()
    tokens: Mapping[str, Any] = field(default_factory=dict)
    aligning_ms: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came back. `num_calls` requests were sent for it; token counts are None where the engine does not tell."""

    text: str
    finish_reason: str | None = None
    applied: Applied = field(default_factory=Applied)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float = 0.0
    num_calls: int = 1


@dataclass(frozen=True)
class LogProb:
    """The natural logarithm of the probability of a continuation's `num_tokens` tokens after the aligned prompt."""

    total: float
    num_tokens: int
    applied: Applied = field(default_factory=Applied)
    latency_ms: float = 0.0


class Session(Protocol):
    """Asks a server under an arm. A failed request raises EngineError, once it was tried often enough."""

    async def chat(self, arm: Arm, messages: Sequence[Message], **body: Any) -> Answer:
        """The answer to a conversation, greedy unless `body`, fields of the request, says otherwise."""
        ...

    async def logprob(self, arm: Arm, messages: Sequence[Message], continuation: str) -> LogProb:
        """How likely the model holds `continuation` for the answer to a conversation, as the arm renders it.

        Raises EngineError with what is missing where the engine gives no log probabilities of a prompt.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """What a measure makes of one task under one arm. `values` are figures by name; what does not apply is left out.

    A measure that generates nothing gives an answer without text, for the sake of what was applied.
    """

    answer: Answer
    values: Mapping[str, float]
    verdict: str | None = None


class Measure(Protocol):
    """One question about alignment. `what` says it in a sentence, for the report."""

    @property
    def name(self) -> str:
        """What rows and options call it."""
        ...

    @property
    def what(self) -> str:
        """What it shows, and how it is found."""
        ...

    @property
    def needs_logprobs(self) -> bool:
        """Whether it asks for log probabilities, which not every engine gives."""
        ...

    @property
    def sets(self) -> Sets:
        """The data sets that it can take."""
        ...

    @property
    def figures(self) -> Sequence[Figure]:
        """What its rows may have among their values."""
        ...

    def tasks(self, plan: Plan) -> Sequence[Task]:
        """What to ask. Raises ConfigurationError for what is wrong with a data set."""
        ...

    async def run(self, task: Task, session: Session, arm: Arm) -> Outcome:
        """Ask, and judge. Raises EngineError."""
        ...
