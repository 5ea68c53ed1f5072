"""What a template sees: the selection and the client's text as plain values, all of it sanitised."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Template, TemplateError

from server.core.errors import ConfigurationError
from server.core.types import Demonstration, Principle, Profile, Selection
from server.rendering.sanitise import FENCE, Sanitiser


@dataclass(frozen=True)
class Exchange:
    """A user message and its answer: a demonstration, or a turn of the client's history."""

    user: str
    assistant: str


def demonstrated(selection: Selection) -> list[Exchange]:
    """Pinned demonstrations first, since they are constant; then the retrieved ones, the most similar last."""
    items: Iterable[Demonstration] = (*selection.pinned, *(scored.item for scored in selection.demonstrations))
    return [Exchange(item.user, item.assistant) for item in items]


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
            system=sanitiser.text(system),
            exchanges=[_exchange(item, sanitiser) for item in exchanges],
            question=sanitiser.text(question),
            fence=FENCE,
        )
    except (TemplateError, ArithmeticError, TypeError, LookupError) as error:
        raise ConfigurationError(f"templates/{profile.template_id}.jinja: {error}") from error


def _principle(item: Principle, sanitiser: Sanitiser) -> Mapping[str, Any]:
    return {"id": item.id, "text": sanitiser.text(item.text), "weight": item.weight, "aspect": item.aspect}


def _exchange(item: Exchange, sanitiser: Sanitiser) -> Mapping[str, str]:
    return {"user": sanitiser.text(item.user), "assistant": sanitiser.text(item.assistant)}
