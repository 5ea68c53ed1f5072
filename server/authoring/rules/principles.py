"""Principles of one constitution beside each other: the same, nearly the same, or perhaps opposed; and their fields."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from server.authoring.rules.base import Subject, find
from server.core.errors import Finding
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
        texts = subject.embed([item.text for item in principles])
        clauses = [_clauses(item.text) for item in principles]
        vectors = [subject.embed([clause.bare for clause in own]) for own in clauses]
        for i, j in combinations(range(len(principles)), 2):
            first, second = principles[i], principles[j]
            if not _can_meet(first, second):
                continue
            where = f"{first.id} (line {document.line_of('principles', i, 'id')})"
            likeness = vectors[i] @ vectors[j].T
            opposed = [
                (float(likeness[a, b]), one.text, other.text)
                for a, one in enumerate(clauses[i])
                for b, other in enumerate(clauses[j])
                if one.is_negative != other.is_negative
            ]
            nearest = max(opposed, default=(0.0, "", ""))
            similarity = float(texts[i] @ texts[j])
            path = ("principles", j, "text")
            if nearest[0] >= _OPPOSES:
                message = f"{second.id} may contradict {where}: “{nearest[2]}” against “{nearest[1]}”"
                yield find(document, path, message, "decide which holds, and reword or scope the other", "contradicts")
            elif similarity >= _REPEATS:
                message = f"{second.id} says nearly the same as {where} (similarity {similarity:.2f})"
                yield find(document, path, message, "make one of the two, or say what sets them apart", "repeats")


@dataclass(frozen=True)
class _Clause:
    """A part of a sentence, as it stands and `bare` of the words that say whether to do it."""

    text: str
    bare: str
    is_negative: bool


def _clauses(text: str) -> Sequence[_Clause]:
    parts = [part.strip() for part in _CLAUSE_ENDS.split(text) if len(part.split()) >= _MIN_WORDS] or [text]
    return [
        _Clause(part, " ".join(_POLARITY.sub(" ", part).split()), _NEGATIVE.search(part) is not None) for part in parts
    ]


def _can_meet(first: PrincipleEntry, second: PrincipleEntry) -> bool:
    """Whether some request is within the scope and on a route of both."""
    shared = first.scope.keys() & second.scope.keys()
    if any(not set(first.scope[name]) & set(second.scope[name]) for name in shared):
        return False
    return first.pinned or second.pinned or bool(set(first.routes) & set(second.routes))


def _constitutions(subject: Subject) -> Iterator[tuple[Document, Sequence[PrincipleEntry]]]:
    return ((loaded.document, loaded.file.principles) for loaded in subject.folder.constitutions.values())
