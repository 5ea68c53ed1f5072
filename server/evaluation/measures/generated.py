"""The figures that every generated answer has, whatever it is asked for: its form and its cost."""

from collections.abc import Mapping

from server.evaluation.measures.base import Answer
from server.evaluation.measures.cost import COST_FIGURES, cost_values
from server.evaluation.measures.form import FORM_FIGURES, form_values

GENERATED_FIGURES = (*FORM_FIGURES, *COST_FIGURES)


def generated_values(answer: Answer) -> Mapping[str, float]:
    """Of `answer`, by the figures' names."""
    return {**form_values(answer), **cost_values(answer)}
