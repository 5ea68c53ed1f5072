"""A session of set answers, for tests of measures and of the runner."""

from collections.abc import Callable, Sequence
from typing import Any

from server.core.errors import EngineError
from server.evaluation.arms import Arm
from server.evaluation.datasets import Message
from server.evaluation.measures.base import Answer, Applied, LogProb

Say = Callable[[Sequence[Message]], str]


class ToldSession:
    """Says what `say` makes of the messages, by each arm's own profile in version 1, and keeps what it was asked."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked: list[tuple[str, Sequence[Message], dict[str, Any]]] = []

    async def chat(self, arm: Arm, messages: Sequence[Message], **body: Any) -> Answer:
        self.asked.append((arm.id, messages, body))
        applied = Applied(f"{arm.profile}@1", tokens={"alignment": 7})
        return Answer(self._say(messages), "stop", applied, prompt_tokens=20, cached_tokens=5)

    async def logprob(self, arm: Arm, messages: Sequence[Message], continuation: str) -> LogProb:
        raise EngineError("nothing here knows log probabilities")
