"""Tokens: what each profile's demonstrations may take, and what its longest prompt leaves of the model's window."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from server.authoring.rules.base import Subject
from server.core.errors import Finding
from server.core.types import Profile, Route, Scored, Selection
from server.rendering.context import render
from server.rendering.sanitise import Sanitiser

# What an answer needs at least; the server lets the alignment give way to keep so much free.
_ANSWER_TOKENS = 256


def check_budgets(subject: Subject) -> Iterator[Finding]:
    """Pinned demonstrations fit the budget, and each of the others fits beside them."""
    for profile in subject.profiles.values():
        pinned, budget = _pinned_tokens(subject, profile), profile.retrieval.budget_tokens
        if pinned > budget:
            message = f"is {budget}, but the pinned demonstrations alone take {pinned} tokens"
            mend = f"raise it to {pinned} or more, or pin less"
            yield subject.find_in_profile(profile, ("retrieval", "budget_tokens"), message, mend, "budget", "error")
    rooms = _rooms(subject)
    for entry in subject.entries:
        needed = subject.num_tokens[entry.item.id]
        if over := [(name, room) for name, room in rooms[entry.item.id] if needed > room >= 0]:
            names = ", ".join(f"{name} ({room} tokens)" for name, room in over)
            message = f"takes {needed} tokens and can never be shown by {names}"
            yield entry.find("assistant", message, "shorten it, or raise budget_tokens there", "budget", "error")


def check_windows(subject: Subject) -> Iterator[Finding]:
    """The longest prompt that a profile can make leaves room for an answer in the model's window."""
    if (window := subject.window_tokens) is None:
        return
    for profile in subject.profiles.values():
        if profile.id not in subject.templates:
            continue
        text, shown = _text_tokens(subject, profile), _demonstration_tokens(subject, profile)
        if text + shown + _ANSWER_TOKENS > window:
            message = (
                f"lets the prompt take {text + shown} tokens (template and principles {text}, demonstrations {shown}) "
                f"and an answer needs {_ANSWER_TOKENS}, but the model's window is {window}"
            )
            mend = "lower it or num_principles, pin less, or serve a model with a larger window"
            yield subject.find_in_profile(profile, ("retrieval", "budget_tokens"), message, mend, "window", "error")


def _rooms(subject: Subject) -> Mapping[str, Sequence[tuple[str, int]]]:
    """By demonstration: the profiles that may retrieve it, each with the tokens that its pinned ones leave."""
    rooms: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for profile in subject.profiles.values():
        room = profile.retrieval.budget_tokens - _pinned_tokens(subject, profile)
        for item in profile.demonstrations if profile.retrieval.num_demonstrations else ():
            rooms[item.id].append((profile.id, room))
    return rooms


def _pinned_tokens(subject: Subject, profile: Profile) -> int:
    return sum(subject.num_tokens[item.id] for item in profile.pinned)


def _text_tokens(subject: Subject, profile: Profile) -> int:
    """What the template makes of the pinned principles and the longest that may be retrieved beside them, and the
    longest reminder and opening.
    """
    principles = profile.constitution.principles
    retrievable = sorted((item for item in principles if not item.pinned), key=lambda item: -len(item.text))
    longest = tuple(Scored(item, 0.0) for item in retrievable[: profile.retrieval.num_principles])
    pinned = tuple(item for item in principles if item.pinned)
    selection = Selection(0.0, Route.LOW, pinned, longest, (), ())
    sanitiser = Sanitiser(subject.tokenizer.control_tokens)
    text = render(subject.templates[profile.id], profile, selection, sanitiser, demonstrations=[], system="")
    count = subject.tokenizer.count
    by_route = (profile.reminders, profile.openings)
    return count(text) + sum(max(map(count, texts.values()), default=0) for texts in by_route)


def _demonstration_tokens(subject: Subject, profile: Profile) -> int:
    """The most that pinned and retrieved demonstrations take together."""
    pinned, retrieval = _pinned_tokens(subject, profile), profile.retrieval
    longest = sorted((subject.num_tokens[item.id] for item in profile.demonstrations), reverse=True)
    return max(pinned, min(retrieval.budget_tokens, pinned + sum(longest[: retrieval.num_demonstrations])))
