"""One profile's constitution and bank, embedded once, ready to choose from for each request."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from server.core.types import Explanation, Principle, Profile, Reason, Route, Scored, Selection, Vectors
from server.retrieval.base import Embedder
from server.retrieval.explanation import judge_demonstrations, judge_principles
from server.retrieval.index import ExactIndex
from server.retrieval.risk import choose_route, score_risk
from server.retrieval.selector import Record, select


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
        self._num_tokens = [item.num_tokens(count_tokens) for item in bank]
        self._risks = [item.risk for item in bank]
        labelled = (*bank, *profile.pinned)
        self._pinned_index = index(item.user for item in profile.pinned)
        self._harmful = np.array([item.risk == "harmful" for item in labelled], np.bool_)
        self._pinned_tokens = sum(item.num_tokens(count_tokens) for item in profile.pinned)
        self._retrievable = [item for item in profile.constitution.principles if not item.pinned]
        self._principle_index = index(_principle_text(item) for item in self._retrievable)

    def retrieve(self, query: str, overridden: Profile | None = None) -> Selection:
        """Choose for the text `query`, by the profile's settings and scope, or by those that a request made of them."""
        return self._retrieve(self._embedder.embed([query])[0], overridden or self._profile)

    def explain(self, query: str, count: int, overridden: Profile | None = None) -> Explanation:
        """What `retrieve` chooses, and why: for the `count` nearest demonstrations of the bank, the nearest first."""
        profile, vector, record = overridden or self._profile, self._embedder.embed([query])[0], Record()
        selection = self._retrieve(vector, profile, record)
        similarities = self._index.similarities(vector)
        nearest = np.argsort(-similarities, kind="stable")[:count].tolist()
        scored = {i: Scored(self._profile.demonstrations[i], float(similarities[i])) for i in nearest}
        ranked = [
            (self._retrievable[i], near, reason)
            for i, near, reason in self._rank_principles(vector, selection.route, profile)
        ]
        return Explanation(
            selection,
            neighbours=judge_demonstrations(scored, self._profile.demonstrations, record, selection.route, profile),
            principles=judge_principles(ranked, selection.route, profile),
        )

    def _retrieve(self, vector: Vectors, profile: Profile, record: Record | None = None) -> Selection:
        settings = profile.retrieval
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
            record=record,
        )
        return Selection(
            risk=risk,
            route=route,
            principles=tuple(item for item in self._profile.constitution.principles if item.pinned),
            retrieved_principles=self._choose_principles(vector, route, profile),
            pinned=self._profile.pinned,
            demonstrations=tuple(Scored(self._profile.demonstrations[i], float(similarities[i])) for i in chosen),
        )

    def _choose_principles(self, vector: Vectors, route: Route, profile: Profile) -> tuple[Scored[Principle], ...]:
        """The best by weight times similarity among those for this route and scope, in the constitution's order."""
        ranked = self._rank_principles(vector, route, profile)
        chosen = sorted((i, similarity) for i, similarity, reason in ranked if reason is Reason.CHOSEN)
        return tuple(Scored(_open(self._retrievable[i], profile.scope), similarity) for i, similarity in chosen)

    def _rank_principles(self, vector: Vectors, route: Route, profile: Profile) -> list[tuple[int, float, Reason]]:
        """Index, similarity and fate of each that is not pinned, the highest weight times similarity first."""
        similarities = self._principle_index.similarities(vector).tolist()
        order = sorted(range(len(similarities)), key=lambda i: -self._retrievable[i].weight * similarities[i])
        left, ranked = profile.retrieval.num_principles, []
        for i in order:
            reason = _bar(self._retrievable[i], route, profile.scope) or (Reason.CHOSEN if left else Reason.OUTRANKED)
            left -= reason is Reason.CHOSEN
            ranked.append((i, similarities[i], reason))
        return ranked


def _bar(item: Principle, route: Route, scope: Mapping[str, str]) -> Reason | None:
    """What keeps `item` from being retrieved, however near it is."""
    if route not in item.routes:
        return Reason.OTHER_ROUTE
    return None if _counts(item, scope) else Reason.OUT_OF_SCOPE


def _counts(item: Principle, scope: Mapping[str, str]) -> bool:
    """Whether nothing known of the request puts it outside the scope of `item`."""
    return all(scope.get(dimension) in {None, *values} for dimension, values in item.scope.items())


def _open(item: Principle, scope: Mapping[str, str]) -> Principle:
    """`item` with only those dimensions of its scope that are left to judge."""
    return replace(item, scope={name: values for name, values in item.scope.items() if name not in scope})


class Retrievers:
    """Builds retrievers. What it embedded for the last ones is kept for the next, so an edit costs little."""

    def __init__(self, embedder: Embedder, count_tokens: Callable[[str], int]) -> None:
        self._embedder = embedder
        self._count = count_tokens
        self._vectors: dict[str, Vectors] = {}

    def build(self, profiles: Iterable[Profile]) -> Mapping[str, Retriever]:
        """A retriever for each profile, by `id@version`."""
        profiles = list(profiles)
        texts = list(dict.fromkeys(text for profile in profiles for text in _embedded_texts(profile)))
        new = [text for text in texts if text not in self._vectors]
        known = self._vectors | dict(zip(new, self._embedder.embed(new), strict=True))
        self._vectors = {text: known[text] for text in texts}
        count = cache(self._count)
        return {profile.label: Retriever(profile, self._embedder, self._vectors, count) for profile in profiles}


def _embedded_texts(profile: Profile) -> Iterable[str]:
    yield from (item.user for item in (*profile.demonstrations, *profile.pinned))
    yield from (_principle_text(item) for item in profile.constitution.principles)


def _principle_text(item: Principle) -> str:
    return item.when or item.text
