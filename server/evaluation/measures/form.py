"""The form of an answer: whether it ends by itself, stays one turn, and does not go round in circles.

These figures are of every generated answer; no measure generates for their sake.
"""

import re
from collections.abc import Mapping, Sequence

from server.evaluation.measures.base import Answer, Figure

FORM_FIGURES = (
    Figure("stopped", "ended by itself", "share", True),
    Figure("invented_turns", "went on with turns of its own", "share", False),
    Figure("repeated", "share of 4-grams that came before", "share", False),
    Figure("looped", "ended in a loop", "share", False),
    Figure("words", "words", "words", None),
)

_GRAM = 4
_MIN_LOOP_WORDS = 12
_MAX_PERIOD_WORDS = 48
# What a model writes that goes on with the conversation: a speaker's name, a control token, or our own fence.
_TURN = re.compile(
    r"^[ \t]*(?:#+[ \t]*|\*\*)?(?:user|human|person|assistant|query|instruction)(?:\*\*)?[ \t]*:"
    r"|<\|(?:im_start|im_end|user|assistant|start_header_id)\|>|<(?:start|end)_of_turn>|\[/?INST\]|^~~~~",
    re.IGNORECASE | re.MULTILINE,
)


def form_values(answer: Answer) -> Mapping[str, float]:
    """The figures of `answer`. One of less than four words has no 4-grams to repeat.

    A play or a chat that was asked for can look like turns of the model's own.
    """
    words = answer.text.split()
    values = {
        "stopped": float(answer.finish_reason == "stop"),
        "invented_turns": float(_TURN.search(answer.text) is not None),
        "looped": float(is_loop(words if answer.finish_reason == "stop" else words[:-1])),
        "words": float(len(words)),
    }
    return values if len(words) < _GRAM else {**values, "repeated": repeated_share(words)}


def repeated_share(words: Sequence[str]) -> float:
    """The share of runs of four words that appeared before among `words`, of which there are four or more."""
    grams = [tuple(words[start : start + _GRAM]) for start in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def is_loop(words: Sequence[str]) -> bool:
    """Whether `words` end with the same words twice or more often over, and with a dozen that only repeat."""
    return any(
        _num_repeating(words, period) >= max(period, _MIN_LOOP_WORDS)
        for period in range(1, min(_MAX_PERIOD_WORDS, len(words) // 2) + 1)
    )


def _num_repeating(words: Sequence[str], period: int) -> int:
    """How many words at the end are each what stands `period` words before."""
    pairs = zip(reversed(words), reversed(words[:-period]), strict=False)
    return next((number for number, (word, before) in enumerate(pairs) if word != before), len(words) - period)
