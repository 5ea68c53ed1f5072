"""What an answer costs: tokens that alignment adds, what of the prompt was cached, time, and calls.

These figures are of every generated answer, as far as its server tells them.
"""

from collections.abc import Mapping

from server.evaluation.measures.base import Answer, Figure

COST_FIGURES = (
    Figure("alignment_tokens", "tokens of alignment", "tokens", False),
    Figure("cached", "share of the prompt's tokens that were cached", "share", True),
    Figure("latency", "time to the whole answer", "ms", False),
    Figure("aligning", "time for choosing and rendering", "ms", False),
    Figure("calls", "requests", "calls", False),
)


def cost_values(answer: Answer) -> Mapping[str, float]:
    """The figures of `answer`. Latency depends on how much is asked at once: compare it within a run."""
    values = {
        "alignment_tokens": float(answer.applied.tokens.get("alignment", 0)),
        "latency": answer.latency_ms,
        "calls": float(answer.num_calls),
    }
    if answer.applied.aligning_ms is not None:
        values["aligning"] = answer.applied.aligning_ms
    if answer.cached_tokens is not None and answer.prompt_tokens:
        values["cached"] = answer.cached_tokens / answer.prompt_tokens
    return values
