"""Demonstrations beside each other: twice the same, or nearly the same."""

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from server.authoring.rules.base import Entry, Subject, folded
from server.core.errors import Finding
from server.core.types import Vectors

# Measured on the shipped bank and on paraphrases of it, with MiniLM (WordLlama in brackets). The two nearest messages
# that are no pair are at 0.64 (0.65) in English, and at 0.84 (0.92) in scripts that the embedders do not know. Ten of
# twelve paraphrases are above 0.85 (six).
_NEAR = 0.85
# So for those scripts letters must agree too: the share of pairs of letters that two messages have in common is at most
# 0.20 between Arabic or Chinese messages that have nothing else in common, and at least 0.31 between the paraphrases.
_SHARED_LETTERS = 0.26
_BLOCK_ROWS = 1024


def check_same(subject: Subject) -> Iterator[Finding]:
    """The same message twice, after the same exchanges, or the same answer."""
    for entry, first in _repeated(subject.entries, _conversation):
        mend = "take one of them out, or let it ask something else"
        yield entry.find("user", f"asks the same as {first.place}", mend, "same-message", "error")
    for entry, first in _repeated(subject.entries, lambda item: folded(item.item.assistant)):
        mend = "write an answer to this very message"
        yield entry.find("assistant", f"has the same answer as {first.place}", mend, "same-answer")


def check_near(subject: Subject) -> Iterator[Finding]:
    """Messages that nearly repeat one which a profile may show beside them, pairs of harm and look-alike apart."""
    for i, j, similarity in _near_pairs(subject.vectors, _NEAR):
        first, second = subject.entries[i], subject.entries[j]
        ids = {first.item.id, second.item.id}
        together = first.file == second.file or any(ids <= held for held in subject.held.values())
        if together and _is_repetition(first, second):
            other = "" if first.item.risk is second.item.risk else f", which is {first.item.risk.value}"
            message = f"asks nearly the same as {first.place}{other} (similarity {similarity:.2f})"
            mend = "keep the better one; of a refusal and its look-alike, name the refusal as contrast"
            yield second.find("user", message, mend, "near-duplicate")


def _conversation(entry: Entry) -> Hashable:
    return tuple((folded(item.user), folded(item.assistant)) for item in entry.item.history), folded(entry.item.user)


def _repeated(entries: Sequence[Entry], key: Callable[[Entry], Hashable]) -> Iterator[tuple[Entry, Entry]]:
    """Each entry whose `key` an earlier one has, with the first such."""
    seen: dict[Hashable, Entry] = {}
    for entry in entries:
        first = seen.setdefault(key(entry), entry)
        if first is not entry:
            yield entry, first


def _near_pairs(vectors: Vectors, least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of rows at least so similar, a block of rows at a time, so that a large bank fits into memory."""
    for start in range(0, len(vectors), _BLOCK_ROWS):
        similarities = np.triu(vectors[start : start + _BLOCK_ROWS] @ vectors[start:].T, 1)
        for row, column in np.argwhere(similarities >= least).tolist():
            yield start + row, start + column, float(similarities[row, column])


def _is_repetition(first: Entry, second: Entry) -> bool:
    if first.item.contrast == second.item.id or second.item.contrast == first.item.id:
        return False
    if first.item.history != second.item.history or _conversation(first) == _conversation(second):
        return False  # the lesson is in what went before; or the very same, which has a rule of its own
    return _shared(first.item.user, second.item.user) >= _SHARED_LETTERS


def _shared(first: str, second: str) -> float:
    """The share of pairs of neighbouring letters that two texts have in common (Jaccard)."""
    one, two = ({text[i : i + 2] for i in range(len(text) - 1)} for text in (folded(first), folded(second)))
    return len(one & two) / max(1, len(one | two))
