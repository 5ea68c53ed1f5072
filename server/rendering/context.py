"""What a template sees: the selection and the client's text as plain values, all of it sanitised."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Template, TemplateError

from server.core.errors import ConfigurationError, Finding, PromptFilesError
from server.core.types import Demonstration, Exchange, Principle, Profile, Route, Scored, Selection
from server.rendering.environment import line_of
from server.rendering.sanitise import FENCE, Sanitiser


def demonstrated(selection: Selection) -> list[Exchange]:
    """Pinned demonstrations first, since they are constant; then the retrieved ones, the most similar last."""
    items: Iterable[Demonstration] = (*selection.pinned, *(scored.item for scored in selection.demonstrations))
    return [exchange for item in items for exchange in item.exchanges]


def render(
    template: Template,
    profile: Profile,
    selection: Selection,
    sanitiser: Sanitiser,
    *,
    demonstrations: Sequence[Exchange],
    system: str,
    exchanges: Sequence[Exchange] = (),
    question: str = "",
) -> str:
    """The template's text. Raises ConfigurationError where the template itself fails."""
    try:
        return template.render(
            principles=[_principle(item, sanitiser) for item in selection.principles],
            retrieved_principles=[_principle(scored.item, sanitiser) for scored in selection.retrieved_principles],
            demonstrations=[_exchange(item, sanitiser) for item in demonstrations],
            system=sanitiser.fenced(system),
            exchanges=[_exchange(item, sanitiser) for item in exchanges],
            question=sanitiser.fenced(question),
            fence=FENCE,
        )
    except (TemplateError, ArithmeticError, TypeError, LookupError) as error:
        raise ConfigurationError(f"templates/{profile.template_id}.jinja: {error}") from error


def check_template(profile: Profile, template: Template) -> None:
    """Render with one of everything, so that a fault shows when it is loaded. Raises PromptFilesError."""
    constitution, sample = profile.constitution.principles, Exchange("a message", "an answer")
    selection = Selection(0.0, Route.LOW, constitution, tuple(Scored(item, 0.0) for item in constitution), (), ())
    arguments = {"demonstrations": [sample], "system": "a setting", "exchanges": [sample], "question": "a question"}
    try:
        render(template, profile, selection, Sanitiser(), **arguments)  # type: ignore[arg-type]  # one of each, by name
    except ConfigurationError as error:
        cause = error.__cause__ or error
        shown, mend = f"templates/{profile.template_id}.jinja", "correct the expression at this line"
        raise PromptFilesError([Finding(shown, line_of(cause, template), "", str(cause), mend)]) from error


def _principle(item: Principle, sanitiser: Sanitiser) -> Mapping[str, Any]:
    shown = {"id": item.id, "text": sanitiser.fenced(item.text), "weight": item.weight, "aspect": item.aspect}
    return {**shown, "scope": {dimension: list(values) for dimension, values in item.scope.items()}}


def _exchange(item: Exchange, sanitiser: Sanitiser) -> Mapping[str, str]:
    return {"user": sanitiser.fenced(item.user), "assistant": sanitiser.fenced(item.assistant)}
