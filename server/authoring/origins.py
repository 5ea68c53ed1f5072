"""Says of every piece of a prompt where it comes from: rendered once more, with marks around each text that is put in.

A text is marked after it has been sanitised, so marks change nothing of that. Only an empty text has none, since
templates ask whether there is one. What the marks leave over must be the prompt itself: a template that changes the
texts it is given, or measures them, may give another, and then nothing is said of origins.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Any, cast

from jinja2 import Template

from server.core.types import Demonstration, Exchange, Principle, Scored, Selection
from server.rendering.sanitise import Sanitiser


class Origin(StrEnum):
    """Where a piece of a prompt comes from."""

    TEMPLATE = "template"
    CONSTITUTION = "constitution"
    RETRIEVED_PRINCIPLE = "retrieved_principle"
    PINNED_DEMONSTRATION = "pinned_demonstration"
    RETRIEVED_DEMONSTRATION = "retrieved_demonstration"
    REMINDER = "reminder"
    OPENING = "opening"
    CLIENT = "client"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """An origin, and the id of the principle or demonstration where it is one."""

    origin: Origin
    id: str = ""


@dataclass(frozen=True)
class Span:
    """A piece of a prompt."""

    source: Source
    text: str


CLIENT = Source(Origin.CLIENT)
TEMPLATE = Source(Origin.TEMPLATE)
UNKNOWN = Source(Origin.UNKNOWN)

# Unicode keeps these for what programs do within; no text that is exchanged has them.
_OPEN, _SEPARATOR, _CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
_MARK = re.compile(f"{_OPEN}([0-9]+){_SEPARATOR}|{_CLOSE}")


class Marks:
    """The marks of one rendering."""

    def __init__(self) -> None:
        self._sources: list[Source] = []

    def around(self, text: str, source: Source) -> str:
        """`text` between marks."""
        if not text:
            return text
        self._sources.append(source)
        return f"{_OPEN}{len(self._sources) - 1}{_SEPARATOR}{text}{_CLOSE}"

    def spans(self, text: str) -> list[Span]:
        """The pieces of a marked text. What is between no marks is the client's."""
        runs = groupby(self._pieces(text), key=lambda span: span.source)
        return [Span(source, "".join(span.text for span in run)) for source, run in runs]

    def _pieces(self, text: str) -> Iterator[Span]:
        open_sources, start = [CLIENT], 0
        for match in _MARK.finditer(text):
            if match.start() > start:
                yield Span(open_sources[-1], text[start : match.start()])
            start = match.end()
            if match[1] is not None:
                open_sources.append(self._sources[int(match[1])])
            elif len(open_sources) > 1:
                open_sources.pop()
        if start < len(text):
            yield Span(open_sources[-1], text[start:])


def unmarked(value: Any) -> Any:
    """A JSON value without the marks in its strings."""
    if isinstance(value, str):
        return _MARK.sub("", value)
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    return {unmarked(key): unmarked(item) for key, item in value.items()} if isinstance(value, dict) else value


class MarkingSanitiser(Sanitiser):
    """Sanitises as the server does, and then marks; text between fences that is nobody else's is the client's."""

    def __init__(self, control_tokens: Iterable[str], marks: Marks) -> None:
        super().__init__(control_tokens)
        self._plain = Sanitiser(control_tokens)
        self._marks = marks

    def text(self, text: str) -> str:
        """See Sanitiser."""
        clean = self._plain.text(text)
        return self._marks.around(clean, text.source) if isinstance(text, _Sourced) else clean

    def fenced(self, text: str) -> str:
        """See Sanitiser."""
        source = text.source if isinstance(text, _Sourced) else CLIENT
        return self._marks.around(self._plain.fenced(text), source)


def marking_template(template: Template, marks: Marks) -> Template:
    """Renders as `template` does, and marks the whole as the template's."""
    return cast(Template, _MarkingTemplate(template, marks))


def sourced(selection: Selection) -> Selection:
    """`selection` with texts that know where they come from."""
    return replace(
        selection,
        principles=tuple(_principle(item, Origin.CONSTITUTION) for item in selection.principles),
        retrieved_principles=tuple(
            Scored(_principle(scored.item, Origin.RETRIEVED_PRINCIPLE), scored.similarity)
            for scored in selection.retrieved_principles
        ),
        pinned=tuple(_demonstration(item, Origin.PINNED_DEMONSTRATION) for item in selection.pinned),
        demonstrations=tuple(
            Scored(_demonstration(scored.item, Origin.RETRIEVED_DEMONSTRATION), scored.similarity)
            for scored in selection.demonstrations
        ),
        reminder=_Sourced(selection.reminder, Source(Origin.REMINDER)),
        opening=_Sourced(selection.opening, Source(Origin.OPENING)),
    )


class _Sourced(str):
    """A text with where it comes from, in all else the text itself."""

    source: Source

    def __new__(cls, text: str, source: Source) -> "_Sourced":
        made = super().__new__(cls, text)
        made.source = source
        return made


class _MarkingTemplate:
    """What rendering uses of a template."""

    def __init__(self, template: Template, marks: Marks) -> None:
        self._template = template
        self._marks = marks

    @property
    def filename(self) -> str | None:
        return self._template.filename

    def generate(self, values: Mapping[str, Any]) -> Iterator[str]:
        text = "".join(self._template.generate(values))
        yield self._marks.around(text, TEMPLATE) if text.strip() else text


def _principle(item: Principle, origin: Origin) -> Principle:
    return replace(item, text=_Sourced(item.text, Source(origin, item.id)))


def _demonstration(item: Demonstration, origin: Origin) -> Demonstration:
    source = Source(origin, item.id)
    history = tuple(Exchange(_Sourced(past.user, source), _Sourced(past.assistant, source)) for past in item.history)
    user, assistant = _Sourced(item.user, source), _Sourced(item.assistant, source)
    return replace(item, history=history, user=user, assistant=assistant)
