"""Refusals and the harmless look-alikes beside them, without which a model learns to refuse words instead of harm."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from server.authoring.rules.base import Entry, Subject
from server.core.errors import Finding
from server.core.types import Risk

# Cosine similarity of the user messages. Measured on the shipped bank with MiniLM (WordLlama in brackets): any two
# messages are further apart than this in 95 (98) of 100 cases, and half of the look-alikes are at 0.57 (0.55) or more.
_NEAR_ENOUGH = 0.25


def check_contrasts(subject: Subject) -> Iterator[Finding]:
    """A contrast is a look-alike's, and names a harmful demonstration."""
    for entry in subject.entries:
        contrast = subject.by_id.get(entry.item.contrast or "")
        if contrast is None:
            continue
        if entry.item.risk is not Risk.LOOKALIKE:
            message, mend = f"has a contrast but is {entry.item.risk.value}", "set risk to lookalike, or take it out"
            yield entry.find("contrast", message, mend, "contrast", "error")
        if contrast.item.risk is not Risk.HARMFUL:
            message = f"names {contrast.place} as contrast, which is {contrast.item.risk.value}"
            yield entry.find(
                "contrast", message, "name the harmful demonstration that it resembles", "contrast", "error"
            )


def check_refusals(subject: Subject) -> Iterator[Finding]:
    """A harmful demonstration has a look-alike, near enough to show where the line is, in the same profiles."""
    lookalikes = _lookalikes(subject)
    for entry in subject.entries:
        if entry.item.risk is not Risk.HARMFUL:
            continue
        if not (beside := lookalikes[entry.item.id]):
            mend = f"add one with risk lookalike and contrast {entry.item.id}, alike in words and answered in full"
            yield entry.find("id", "is harmful and has no look-alike", mend, "no-lookalike")
            continue
        nearest = max(similarity for _, similarity in beside)
        if nearest < _NEAR_ENOUGH:
            names = ", ".join(other.item.id for other, _ in beside)
            message = f"has no look-alike near it: {names} (similarity {nearest:.2f}, at least {_NEAR_ENOUGH} is near)"
            yield entry.find("user", message, "let the look-alike use more of the same words", "far-lookalike")
        yield from _check_profiles(subject, entry, [other for other, _ in beside])


def check_pinned(subject: Subject) -> Iterator[Finding]:
    """A pinned refusal meets every request, so its look-alike must too."""
    lookalikes = _lookalikes(subject)
    for profile in subject.profiles.values():
        pinned = {item.id for item in profile.pinned}
        for index, item in enumerate(profile.pinned):
            names = {other.item.id for other, _ in lookalikes[item.id]}
            if item.risk is Risk.HARMFUL and not names & pinned:
                message = (
                    f"{item.id} is harmful and pinned without a look-alike; models then refuse ordinary requests too"
                )
                mend = f"pin {' or '.join(sorted(names)) or 'a look-alike'} too, or pin neither"
                yield subject.find_in_profile(profile, ("pinned", index), message, mend, "pinned-refusal")


def _check_profiles(subject: Subject, entry: Entry, beside: Sequence[Entry]) -> Iterator[Finding]:
    names = {other.item.id for other in beside}
    if without := [name for name, held in subject.held.items() if entry.item.id in held and not names & held]:
        message = f"is shown without a look-alike by {', '.join(without)}"
        mend = f"name the file of {' or '.join(sorted(names))} in demonstrations of these profiles"
        yield entry.find("id", message, mend, "no-lookalike")


def _lookalikes(subject: Subject) -> Mapping[str, Sequence[tuple[Entry, float]]]:
    """By the id of each contrast: the look-alikes that name it, and how similar their messages are."""
    rows = {entry.item.id: row for row, entry in enumerate(subject.entries)}
    found: defaultdict[str, list[tuple[Entry, float]]] = defaultdict(list)
    for row, entry in enumerate(subject.entries):
        other = rows.get(entry.item.contrast or "")
        if other is not None and entry.item.risk is Risk.LOOKALIKE:
            similarity = float(subject.vectors[row] @ subject.vectors[other])
            found[subject.entries[other].item.id].append((entry, similarity))
    return found
