"""Frozen values that stages hand to each other. Files and HTTP bodies are parsed elsewhere; these are already valid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Body: TypeAlias = dict[str, Any]
"""An OpenAI request or response body. It passes through, so fields nobody here knows stay in it untouched."""

Vectors: TypeAlias = NDArray[np.float32]
"""Rows of unit length, float32 [n, dimension]."""

EXCHANGE_OVERHEAD_TOKENS = 16
"""What a template or chat format adds around one exchange, counted against the budget."""

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """Who asks: the request's headers by lower-case name, and the profiles its key is bound to.

    The first of `profiles` is the caller's default; None means that it may use all, and the server's default applies.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] | None = None


class Risk(StrEnum):
    """What a demonstration's user message is: ordinary, delicate, harmless despite its words, or to be declined."""

    BENIGN = "benign"
    SENSITIVE = "sensitive"
    LOOKALIKE = "lookalike"
    HARMFUL = "harmful"


class Part(StrEnum):
    """Parts of the alignment that may give way where a prompt does not fit the model's window, in this order."""

    RETRIEVED = "retrieved"
    PINNED = "pinned"
    CONSTITUTION = "constitution"


class Route(StrEnum):
    """How risky a request looks; quotas and principles are declared per route."""

    LOW = "low"
    ELEVATED = "elevated"
    HIGH = "high"


class Reason(StrEnum):
    """Why a demonstration or a principle was chosen, or was not."""

    CHOSEN = "chosen"
    TOO_FAR = "too_far"
    NO_QUOTA = "no_quota"
    OUT_OF_POOL = "out_of_pool"
    QUOTA_SPENT = "quota_spent"
    OVER_BUDGET = "over_budget"
    LESS_VARIED = "less_varied"
    ENOUGH = "enough"
    OTHER_ROUTE = "other_route"
    OUT_OF_SCOPE = "out_of_scope"
    OUTRANKED = "outranked"
    NOT_ALIGNED = "not_aligned"


class Rendering(StrEnum):
    """How alignment reaches the engine: as chat messages, as one completion text, or not at all."""

    CHAT = "chat"
    COMPLETION = "completion"
    NONE = "none"


class Placement(StrEnum):
    """Where a chat rendering puts demonstrations: as turns before the client's, or inside the system text."""

    TURNS = "turns"
    SYSTEM = "system"


class Order(StrEnum):
    """In which order retrieved demonstrations stand in a prompt. The canonical one is the bank's, whatever is asked."""

    NEAREST_LAST = "nearest_last"
    NEAREST_FIRST = "nearest_first"
    CANONICAL = "canonical"


class Obstacle(StrEnum):
    """Why an answer cannot have the opening that its profile gives it."""

    TOOLS = "tools"
    STRUCTURED_OUTPUT = "structured_output"
    CLIENT_CONTINUES = "client_continues"
    ENDPOINT = "endpoint"
    ENGINE = "engine"


@dataclass(frozen=True)
class Principle:
    """One normative sentence. `pinned` ones are in every prompt; others are retrieved by `when` on their `routes`.

    `scope` says, by dimension (jurisdiction, product), for which of its values the principle counts.
    """

    id: str
    text: str
    when: str
    weight: float
    aspect: str
    pinned: bool
    routes: frozenset[Route]
    source: str
    scope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Constitution:
    """An ordered, weighted set of principles."""

    id: str
    principles: tuple[Principle, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user message and its answer: of a demonstration, or of the client's history."""

    user: str
    assistant: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One exchange shown in context, with the exchanges of its conversation before it, oldest first, as `history`.

    `contrast` names the harmful demonstration that a look-alike answers. `language` is a BCP-47 tag.
    """

    id: str
    topic: str
    aspect: str
    risk: Risk
    user: str
    assistant: str
    source: str
    contrast: str | None = None
    language: str = "en"
    history: tuple[Exchange, ...] = ()

    @property
    def is_harmful(self) -> bool:
        """Whether a request like it is risky."""
        return self.risk is Risk.HARMFUL

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All of the conversation, in order."""
        return (*self.history, Exchange(self.user, self.assistant))

    def num_tokens(self, count: Callable[[str], int]) -> int:
        """What it costs in a prompt, what stands around it included."""
        texts = sum(count(item.user) + count(item.assistant) for item in self.exchanges)
        return texts + EXCHANGE_OVERHEAD_TOKENS * len(self.exchanges)


@dataclass(frozen=True, slots=True)
class RiskMessage:
    """A message that is never shown: it only says that requests like it are harmful, or that they are not.

    `file` is the name of its file without ending.
    """

    user: str
    is_harmful: bool
    file: str

    @property
    def id(self) -> str:
        """Where it stands; messages have no ids of their own."""
        return f"risk/{self.file}"


@dataclass(frozen=True)
class Retrieval:
    """How a profile chooses from its bank.

    `quotas` gives, for each route, how many retrieved demonstrations of each risk a prompt may hold; risks not named
    there may not appear. `thresholds` are the risks (0 to 1) at which the elevated and high routes begin.
    """

    num_demonstrations: int
    budget_tokens: int
    mmr_lambda: float
    min_similarity: float
    num_principles: int
    num_neighbours: int
    thresholds: tuple[float, float]
    quotas: Mapping[Route, Mapping[Risk, int]]
    order: Order = Order.NEAREST_LAST


@dataclass(frozen=True)
class Profile:
    """A named, versioned bundle of everything that decides how a request is aligned. `version` is a content hash.

    `shrinks` are the parts that give way where the prompt does not fit. With `aligns_completions`, requests for plain
    completions get this profile too when it is the default. `scope` is the value of each dimension that is known;
    principles for other values do not count. `risk_messages` decide the risk beside the demonstrations. `openings` are
    the first words of answers, by route; the model continues them. `reminders` stand after the client's message. To
    requests on a route that is not among `aligned_routes`, nothing of all this is added.
    """

    id: str
    version: str
    description: str
    rendering: Rendering
    placement: Placement
    constitution: Constitution
    demonstrations: tuple[Demonstration, ...]
    pinned: tuple[Demonstration, ...]
    retrieval: Retrieval
    template: str
    template_id: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    overridable: frozenset[str] = frozenset()
    shrinks: frozenset[Part] = frozenset(Part)
    aligns_completions: bool = False
    scope: Mapping[str, str] = field(default_factory=dict)
    risk_messages: tuple[RiskMessage, ...] = ()
    openings: Mapping[Route, str] = field(default_factory=dict)
    reminders: Mapping[Route, str] = field(default_factory=dict)
    aligned_routes: frozenset[Route] = frozenset(Route)

    @property
    def label(self) -> str:
        """`id@version`, as headers and traces show it."""
        return f"{self.id}@{self.version}"


@dataclass(frozen=True)
class Scored(Generic[T]):
    """An item with its similarity (cosine, -1 to 1) to the request."""

    item: T
    similarity: float


@dataclass(frozen=True)
class Selection:
    """What retrieval chose for one request. `demonstrations` are in prompt order.

    `reminder` stands after the client's message, and `opening` is what the answer begins with; either may be empty.
    Where the opening had to be left out, `obstacle` says why.
    """

    risk: float
    route: Route
    principles: tuple[Principle, ...]
    retrieved_principles: tuple[Scored[Principle], ...]
    pinned: tuple[Demonstration, ...]
    demonstrations: tuple[Scored[Demonstration], ...]
    reminder: str = ""
    opening: str = ""
    obstacle: Obstacle | None = None


@dataclass(frozen=True)
class Judged(Generic[T]):
    """An item with its similarity to the request, and why it was chosen or not: a code and a sentence."""

    item: T
    similarity: float
    reason: Reason
    why: str


@dataclass(frozen=True)
class Explanation:
    """A selection with the reasons for it: for the nearest demonstrations, and for all principles to retrieve.

    `risk_neighbours` are the nearest of those that decided the risk, the nearest first. `passage` is the part of a long
    message that decided it and is what was retrieved for; None where the whole did.
    """

    selection: Selection
    neighbours: tuple[Judged[Demonstration], ...]
    principles: tuple[Judged[Principle], ...]
    risk_neighbours: tuple[Scored[Demonstration | RiskMessage], ...]
    passage: str | None = None
