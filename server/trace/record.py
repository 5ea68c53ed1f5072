"""One request's record. It holds ids, scores, counts and times, never the client's text."""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from server.core.types import Body, Demonstration, Explanation, Judged, Principle, Profile, Rendering, Selection

_logger = logging.getLogger("server.trace")


@dataclass
class Trace:
    """Filled in as the request goes its way; `outcome` is ok, error or disconnected.

    `key` names the client's key. There is one selection for each conversation or prompt of the request; `dropped` are
    the ids that gave way to the model's window, by kind. `usage` is the engine's own, where the answer was read here.
    """

    id: str = field(default_factory=lambda: f"trace-{secrets.token_hex(12)}")
    profile: Profile | None = None
    model: str | None = None
    key: str | None = None
    selections: tuple[Selection, ...] = ()
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] | None = None
    embedder: str | None = None
    outcome: str = "disconnected"
    timings_ms: dict[str, float] = field(default_factory=dict)
    _started_s: float = field(default_factory=time.perf_counter)

    def mark(self, stage: str) -> None:
        """Note how many milliseconds after the request's arrival `stage` was complete."""
        self.timings_ms[stage] = round((time.perf_counter() - self._started_s) * 1000, 2)

    def headers(self) -> dict[str, str]:
        """Response headers: the trace id, and the profile once it is known."""
        headers = {"x-alignment-trace-id": self.id}
        return headers | {"x-alignment-profile": self.profile.label} if self.profile else headers

    def to_json(self) -> Body:
        """The trace as clients see it."""
        body: Body = {"trace_id": self.id, "outcome": self.outcome, "model": self.model}
        if self.profile is not None:
            body |= _profile_json(self.profile)
        if self.key is not None:
            body["key"] = self.key
        if self.selections:
            shown = [selection_json(selection) for selection in self.selections]
            body |= shown[0] if len(shown) == 1 else {"prompts": shown}
            body |= {"embedder": self.embedder, "tokens": dict(self.tokens), "overrides": dict(self.overrides)}
            body |= {"dropped": dict(self.dropped)} if self.dropped else {}
        if self.usage is not None:
            body["usage"] = dict(self.usage)
        return body | {"timings_ms": dict(self.timings_ms)}

    def write(self) -> None:
        """Log the record as one line of JSON."""
        self.mark("total")
        _logger.info("%s", orjson.dumps(self.to_json()).decode())


def selection_json(selection: Selection) -> Body:
    """What was chosen: ids in prompt order, with the similarities that chose them, and the texts of its route."""
    return {
        "risk": round(selection.risk, 4),
        "route": selection.route.value,
        "principles": [item.id for item in selection.principles],
        "retrieved_principles": [
            _scored(scored.item.id, scored.similarity) for scored in selection.retrieved_principles
        ],
        "pinned_demonstrations": [item.id for item in selection.pinned],
        "demonstrations": [
            _scored(scored.item.id, scored.similarity) | {"risk": scored.item.risk.value}
            for scored in selection.demonstrations
        ],
        **({"reminder": selection.reminder} if selection.reminder else {}),
        **({"opening": selection.opening} if selection.opening else {}),
        **({"opening_left_out": selection.obstacle.value} if selection.obstacle else {}),
    }


def explanation_json(explanation: Explanation, profile: Profile, embedder: str) -> Body:
    """A selection by `profile` with the reasons for it."""
    return {
        "profile": profile.id,
        "version": profile.version,
        "embedder": embedder,
        **selection_json(explanation.selection),
        "passage": explanation.passage,
        "judged_principles": [_judged(judged) for judged in explanation.principles],
        "neighbours": [
            _judged(judged)
            | {"risk": judged.item.risk.value, "topic": judged.item.topic}
            | {"aspect": judged.item.aspect, "user": judged.item.user}
            for judged in explanation.neighbours
        ],
        "risk_neighbours": [
            _scored(scored.item.id, scored.similarity) | {"harmful": scored.item.is_harmful, "user": scored.item.user}
            for scored in explanation.risk_neighbours
        ],
    }


def _judged(judged: Judged[Demonstration] | Judged[Principle]) -> Body:
    return _scored(judged.item.id, judged.similarity) | {"reason": judged.reason.value, "why": judged.why}


def _profile_json(profile: Profile) -> Body:
    body: Body = {"profile": profile.id, "version": profile.version, "rendering": profile.rendering.value}
    return body | {"placement": profile.placement.value} if profile.rendering is Rendering.CHAT else body


def _scored(identifier: str, similarity: float) -> Body:
    return {"id": identifier, "similarity": round(similarity, 4)}
