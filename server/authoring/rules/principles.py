"""Principles of one constitution beside each other: the same, nearly the same, or perhaps opposed; and their fields."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from server.authoring.rules.base import Subject, find
from server.core.errors import Finding
from server.core.types import Vectors
from server.profiles.documents import Document
from server.profiles.schema import PrincipleEntry

# Measured with MiniLM (WordLlama in brackets). Of the shipped principles that can meet in one prompt, the nearest two
# are at 0.69 (0.67); of four rewordings three are at 0.82 or more (one; another is at 0.75).
_REPEATS = 0.75
# Of clauses opposed in polarity, taken without the words that carry it, the nearest two shipped ones are at 0.72 (0.57)
# and mean different things; of six contradictions four (five) are at 0.81 or more.
_OPPOSES = 0.75
_MIN_WORDS = 3

_CLAUSE_ENDS = re.compile(r"[,;:.()]\s*|\s\b(?:and|but)\b\s", re.IGNORECASE)
_NEGATIVE = re.compile(
    r"\b(?:never|not|no|none|nobody|nothing|cannot|\w+n't|avoid|without|refuse|decline|refrain)\b", re.IGNORECASE
)
_POLARITY = re.compile(
    r"\b(?:never|always|not|no|do|don't|must|should|may|can|cannot|avoid|refuse to|decline to|refrain from)\b",
    re.IGNORECASE,
)


def check_ids(subject: Subject) -> Iterator[Finding]:
    """An id means one principle of a constitution."""
    for document, principles in _constitutions(subject):
        seen: dict[str, int] = {}
        for index, item in enumerate(principles):
            first = seen.setdefault(item.id, index)
            if first != index:
                message = f"{item.id!r} is used twice, first at line {document.line_of('principles', first, 'id')}"
                path = ("principles", index, "id")
                yield find(document, path, message, "give one of them another id", "principle-id", "error")


def check_fields(subject: Subject) -> Iterator[Finding]:
    """Retrievable principles say when they count, and pinned ones do not."""
    for document, principles in _constitutions(subject):
        for index, item in enumerate(principles):
            path = ("principles", index)
            if not item.pinned and not item.when.strip():
                message = f"{item.id} does not say what requests it is for, so its own words are compared with them"
                mend = "add `when` with the words that such requests use, or pin it"
                yield find(document, (*path, "id"), message, mend, "no-when")
            for name in sorted({"when", "routes"} & item.model_fields_set) if item.pinned else ():
                message = f"{item.id} is pinned, so {name} has no effect"
                yield find(document, (*path, name), message, f"take out {name} or pinned", "no-effect")


def check_pairs(subject: Subject) -> Iterator[Finding]:
    """Principles that repeat or may contradict each other, of those whose scopes let them meet in one prompt."""
    for document, principles in _constitutions(subject):
        read = [_read(item, subject) for item in principles]
        for i, j in combinations(range(len(read)), 2):
            if _can_meet(principles[i], principles[j]) and (doubt := _compare(read[i], read[j])):
                where = f"{principles[i].id} (line {document.line_of('principles', i, 'id')})"
                message = f"{principles[j].id} {doubt.says} {where}{doubt.detail}"
                yield find(document, ("principles", j, "text"), message, doubt.mend, doubt.rule)


@dataclass(frozen=True)
class _Principle:
    """Its clauses as they stand, whether each is negative, and the vectors of the whole and of each clause.

    Those of clauses are taken without the words that say whether to do it.
    """

    clauses: Sequence[str]
    is_negative: Sequence[bool]
    vector: Vectors
    clause_vectors: Vectors


@dataclass(frozen=True)
class _Doubt:
    """About a principle beside another one, which stands between `says` and `detail`."""

    says: str
    detail: str
    mend: str
    rule: str


def _read(item: PrincipleEntry, subject: Subject) -> _Principle:
    parts = [part.strip() for part in _CLAUSE_ENDS.split(item.text)]
    clauses = [part for part in parts if len(part.split()) >= _MIN_WORDS] or [item.text]
    bare = [" ".join(_POLARITY.sub(" ", clause).split()) for clause in clauses]
    is_negative = [_NEGATIVE.search(clause) is not None for clause in clauses]
    return _Principle(clauses, is_negative, subject.embed([item.text])[0], subject.embed(bare))


def _compare(first: _Principle, second: _Principle) -> _Doubt | None:
    likeness = first.clause_vectors @ second.clause_vectors.T
    likeness[np.equal.outer(first.is_negative, second.is_negative)] = -1
    row, column = divmod(int(np.argmax(likeness)), len(second.clauses))
    if likeness[row, column] >= _OPPOSES:
        detail = f": “{second.clauses[column]}” against “{first.clauses[row]}”"
        mend = "decide which holds, and reword or scope the other"
        return _Doubt("may contradict", detail, mend, "contradicts")
    if (similarity := float(first.vector @ second.vector)) >= _REPEATS:
        mend = "make one of the two, or say what sets them apart"
        return _Doubt("says nearly the same as", f" (similarity {similarity:.2f})", mend, "repeats")
    return None


def _can_meet(first: PrincipleEntry, second: PrincipleEntry) -> bool:
    """Whether some request is within the scope and on a route of both."""
    shared = first.scope.keys() & second.scope.keys()
    if any(not set(first.scope[name]) & set(second.scope[name]) for name in shared):
        return False
    return first.pinned or second.pinned or bool(set(first.routes) & set(second.routes))


def _constitutions(subject: Subject) -> Iterator[tuple[Document, Sequence[PrincipleEntry]]]:
    return ((loaded.document, loaded.file.principles) for loaded in subject.folder.constitutions.values())
