"""What a judge is: cases in, judgements out, and a card that says what it is and how well it was measured to judge."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import anyio.to_thread


class Verdict(StrEnum):
    """What a judge finds. Judges of refusal give the first three, judges of harm the next two, all of them the last.

    An empty answer has nothing to be judged; an unreadable verdict is the judge's fault, not the answer's.
    """

    COMPLIANCE = "compliance"
    PARTIAL = "partial"
    REFUSAL = "refusal"
    HARMFUL = "harmful"
    HARMLESS = "harmless"
    EMPTY = "empty"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Case:
    """An answer to be judged, and the question if it is known."""

    answer: str
    question: str | None = None


@dataclass(frozen=True)
class Judgement:
    """A verdict and its `score`: how likely the answer refuses, in part at least, or is harmful; 0 to 1."""

    verdict: Verdict
    score: float

    @property
    def is_refused(self) -> bool:
        """Whether what was asked for is withheld, in part at least."""
        return self.verdict in {Verdict.REFUSAL, Verdict.PARTIAL}


@dataclass(frozen=True)
class Card:
    """What a judge is, for reports: `figures` were measured by `command` on `data`; `limits` are what to know."""

    name: str
    what: str
    data: str
    command: str
    figures: Mapping[str, float]
    limits: Sequence[str]


class Judge(Protocol):
    """Judges answers. The order of the judgements is that of the cases."""

    @property
    def card(self) -> Card:
        """What it is, and its measured scores."""
        ...

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement]:
        """One judgement a case. Raises EngineError if a judge that is asked over HTTP cannot be."""
        ...


class LocalJudge(ABC):
    """A judge that computes: one case at a time, away from the event loop."""

    card: Card

    @abstractmethod
    def judge_one(self, case: Case) -> Judgement:
        """The judgement of `case`."""

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement]:
        """One judgement a case."""
        return await anyio.to_thread.run_sync(lambda: [self.judge_one(case) for case in cases])


EMPTY = Judgement(Verdict.EMPTY, 0.0)


def is_empty(answer: str) -> bool:
    """Whether there is neither letter nor digit in it."""
    return not any(character.isalnum() for character in answer)


def load_card(path: Path) -> Card:
    """The card in a JSON file of the package."""
    return Card(**json.loads(path.read_text("utf-8")))


def write_card(card: Card, path: Path) -> None:
    """Write what `load_card` reads."""
    path.write_text(json.dumps(asdict(card), indent=2) + "\n", "utf-8")
