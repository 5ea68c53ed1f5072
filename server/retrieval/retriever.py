"""One profile's constitution and bank, embedded once, ready to choose from for each request."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np

from server.core.types import (
    EXCHANGE_OVERHEAD_TOKENS,
    Demonstration,
    Principle,
    Profile,
    Retrieval,
    Route,
    Scored,
    Selection,
    Vectors,
)
from server.retrieval.base import Embedder
from server.retrieval.index import ExactIndex
from server.retrieval.risk import choose_route, score_risk
from server.retrieval.selector import select


class Retriever:
    """Chooses for one profile. Immutable after it is built; safe to share between threads."""

    def __init__(
        self,
        profile: Profile,
        embedder: Embedder,
        vectors: Mapping[str, Vectors],
        count_tokens: Callable[[str], int],
    ) -> None:
        """`vectors` has the vector of every text of the profile that retrieval compares with."""

        def index(texts: Iterable[str]) -> ExactIndex:
            rows = [vectors[text] for text in texts]
            return ExactIndex(np.stack(rows) if rows else np.empty((0, embedder.dimension), np.float32))

        self._profile = profile
        self._embedder = embedder
        bank = profile.demonstrations
        self._index = index(item.user for item in bank)
        self._num_tokens = [num_exchange_tokens(item, count_tokens) for item in bank]
        self._risks = [item.risk for item in bank]
        labelled = (*bank, *profile.pinned)
        self._pinned_index = index(item.user for item in profile.pinned)
        self._harmful = np.array([item.risk == "harmful" for item in labelled], np.bool_)
        self._pinned_tokens = sum(num_exchange_tokens(item, count_tokens) for item in profile.pinned)
        self._retrievable = [item for item in profile.constitution.principles if not item.pinned]
        self._principle_index = index(_principle_text(item) for item in self._retrievable)

    def retrieve(self, query: str, retrieval: Retrieval | None = None) -> Selection:
        """Choose for the text `query`. `retrieval` replaces the profile's own settings, for overrides."""
        settings = retrieval or self._profile.retrieval
        vector = self._embedder.embed([query])[0]
        similarities = self._index.similarities(vector)
        labelled = np.concatenate([similarities, self._pinned_index.similarities(vector)])
        risk = score_risk(labelled, self._harmful, settings.num_neighbours)
        route = choose_route(risk, settings.thresholds)
        chosen = select(
            similarities,
            self._index.vectors,
            self._risks,
            self._num_tokens,
            quotas=settings.quotas.get(route, {}),
            count=settings.num_demonstrations,
            budget_tokens=settings.budget_tokens - self._pinned_tokens,
            mmr_lambda=settings.mmr_lambda,
            min_similarity=settings.min_similarity,
        )
        return Selection(
            risk=risk,
            route=route,
            principles=tuple(item for item in self._profile.constitution.principles if item.pinned),
            retrieved_principles=self._choose_principles(vector, route, settings),
            pinned=self._profile.pinned,
            demonstrations=tuple(Scored(self._profile.demonstrations[i], float(similarities[i])) for i in chosen),
        )

    def neighbours(self, query: str, count: int) -> list[Scored[Demonstration]]:
        """The `count` nearest demonstrations of the bank, nearest first, before any quota or budget."""
        similarities = self._index.similarities(self._embedder.embed([query])[0])
        order = np.argsort(-similarities, kind="stable")[:count]
        return [Scored(self._profile.demonstrations[i], float(similarities[i])) for i in order.tolist()]

    def _choose_principles(self, vector: Vectors, route: Route, settings: Retrieval) -> tuple[Scored[Principle], ...]:
        """The best by weight times similarity among those for this route, in the constitution's order."""
        similarities = self._principle_index.similarities(vector)
        candidates = [i for i, item in enumerate(self._retrievable) if route in item.routes]
        candidates.sort(key=lambda i: -self._retrievable[i].weight * float(similarities[i]))
        kept = sorted(candidates[: settings.num_principles])
        return tuple(Scored(self._retrievable[i], float(similarities[i])) for i in kept)


def num_exchange_tokens(item: Demonstration, count_tokens: Callable[[str], int]) -> int:
    """The tokens one demonstration costs in a prompt, what surrounds it included."""
    return count_tokens(item.user) + count_tokens(item.assistant) + EXCHANGE_OVERHEAD_TOKENS


def build_retrievers(
    profiles: Iterable[Profile], embedder: Embedder, count_tokens: Callable[[str], int]
) -> Mapping[str, Retriever]:
    """A retriever for each profile by id. Profiles share banks, so each distinct text is embedded and counted once."""
    profiles = list(profiles)
    texts = list(dict.fromkeys(text for profile in profiles for text in _embedded_texts(profile)))
    vectors = dict(zip(texts, embedder.embed(texts), strict=True))
    count = cache(count_tokens)
    return {profile.id: Retriever(profile, embedder, vectors, count) for profile in profiles}


def _embedded_texts(profile: Profile) -> Iterable[str]:
    yield from (item.user for item in (*profile.demonstrations, *profile.pinned))
    yield from (_principle_text(item) for item in profile.constitution.principles)


def _principle_text(item: Principle) -> str:
    return item.when or item.text
