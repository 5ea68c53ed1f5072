"""One profile's constitution and bank, embedded once, ready to choose from for each request."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from server.core.types import (
    Demonstration,
    Explanation,
    Principle,
    Profile,
    Reason,
    Risk,
    RiskMessage,
    Route,
    Scored,
    Selection,
    Vectors,
)
from server.retrieval.base import Embedder
from server.retrieval.cache import DiskCache
from server.retrieval.explanation import judge_demonstrations, judge_principles
from server.retrieval.index import NeighbourIndex, nearest_others
from server.retrieval.judging import split
from server.retrieval.passages import passages
from server.retrieval.remembered import Remembered, Report
from server.retrieval.risk import calibrate, choose_route, is_held_out, score_risk
from server.retrieval.selector import Record, arrange, select
from server.retrieval.vectors import Rows, VectorStore


@dataclass(frozen=True, eq=False)
class Bank:
    """Demonstrations to retrieve from, and what each costs in a prompt; for all profiles and versions that have it.

    They are found by `index`; those among them that decide the risk, by `judging`.
    """

    demonstrations: tuple[Demonstration, ...]
    index: NeighbourIndex
    judging: NeighbourIndex
    risks: tuple[Risk, ...]
    num_tokens: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class RiskIndex:
    """Messages that decide the risk beside a bank; for all profiles and versions that have them.

    `similarities` and `harmful` are of the nearest others of harmless ones, those that no encoder was fitted to:
    [messages that calibrate, neighbours], each.
    """

    messages: tuple[RiskMessage, ...]
    index: NeighbourIndex
    similarities: NDArray[np.float32]
    harmful: NDArray[np.bool_]
    _scores: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def harmless_scores(self, num_neighbours: int) -> NDArray[np.float64]:
        """What the harmless messages that calibrate score, each without itself, ascending; computed once."""
        if num_neighbours not in self._scores:
            pairs = zip(self.similarities, self.harmful, strict=True)
            self._scores[num_neighbours] = np.sort([score_risk(near, labels, num_neighbours) for near, labels in pairs])
        return self._scores[num_neighbours]


@dataclass(frozen=True)
class _Candidates:
    """The nearest demonstrations of each risk, in the order of the bank; all sequences are parallel."""

    positions: Sequence[int]
    similarities: NDArray[np.float32]
    vectors: Vectors
    risks: Sequence[Risk]
    num_tokens: Sequence[int]


@dataclass(frozen=True)
class _Voters:
    """What may be among the nearest that decide the risk; both are parallel."""

    items: Sequence[Demonstration | RiskMessage]
    similarities: NDArray[np.float32]


@dataclass(frozen=True)
class _Judged:
    """What of a message decides its risk: what it is about, who votes, and the risk that comes of it.

    `passage` is the part of the message that is meant; None if it is the whole.
    """

    vector: Vectors
    voters: _Voters
    risk: float
    passage: str | None


class Retriever:
    """Chooses for one profile. Immutable after it is built; safe to share between threads."""

    def __init__(
        self,
        profile: Profile,
        embedder: Embedder,
        bank: Bank,
        risk_index: RiskIndex,
        store: VectorStore,
        risk_store: VectorStore,
        pinned_tokens: int,
    ) -> None:
        """`bank` has the profile's demonstrations, `risk_index` its messages.

        `store` has the vectors of all texts that are retrieved, `risk_store` those of messages that decide the risk; it
        may be the same, where one embedder does for both.
        """
        self._profile = profile
        self._topics, self._judge = split(embedder)
        self._bank = bank
        self._risk_index = risk_index
        self._store = store
        self._risk_store = risk_store
        self._pinned_tokens = pinned_tokens
        self._pinned_rows = risk_store.rows([item.user for item in profile.pinned])
        self._retrievable = _retrievable(profile)
        self._principle_rows = store.rows([_principle_text(item) for item in self._retrievable])
        self._harmless_scores = risk_index.harmless_scores(profile.retrieval.num_neighbours)

    @property
    def rows(self) -> Iterable[Rows]:
        """All that it needs of the store of what is retrieved."""
        return self._bank.index.rows, self._principle_rows

    @property
    def risk_rows(self) -> Iterable[Rows]:
        """All that it needs of the store of what decides the risk."""
        return self._bank.judging.rows, self._risk_index.index.rows, self._pinned_rows

    def retrieve(self, query: str, overridden: Profile | None = None) -> Selection:
        """Choose for the text `query`, by the profile's settings and scope, or by those that a request made of them."""
        profile = overridden or self._profile
        judged = self._judged(query, profile)
        return self._choose(judged, self._candidates(judged.vector), profile)

    def explain(self, query: str, count: int, overridden: Profile | None = None) -> Explanation:
        """What `retrieve` chooses, and why: for the `count` nearest demonstrations of the bank, the nearest first.

        There are never more than `NUM_NEAREST` of a risk among those. Of the neighbours that decide the risk, it shows
        the nearest `count` too.
        """
        profile, record = overridden or self._profile, Record()
        judged = self._judged(query, profile)
        candidates, voters = self._candidates(judged.vector), judged.voters
        selection = self._choose(judged, candidates, profile, record)
        deciding = np.argsort(-voters.similarities, kind="stable")[: min(count, profile.retrieval.num_neighbours)]
        nearest = np.argsort(-candidates.similarities, kind="stable")[:count].tolist()
        scored = {i: self._scored(candidates, i) for i in nearest}
        items = [self._bank.demonstrations[i] for i in candidates.positions]
        ranked = [
            (self._retrievable[i], near, reason)
            for i, near, reason in self._rank_principles(judged.vector, selection.route, profile)
        ]
        return Explanation(
            selection,
            neighbours=judge_demonstrations(scored, items, record, selection.route, profile),
            principles=judge_principles(ranked, selection.route, profile),
            risk_neighbours=tuple(Scored(voters.items[i], float(voters.similarities[i])) for i in deciding.tolist()),
            passage=judged.passage,
        )

    def _candidates(self, vector: Vectors) -> _Candidates:
        bank, found = self._bank, self._bank.index.nearest(vector)
        positions = found.positions.tolist()
        return _Candidates(
            positions,
            found.similarities,
            vectors=self._store.vectors[bank.index.rows[found.positions]],
            risks=[bank.risks[i] for i in positions],
            num_tokens=bank.num_tokens[found.positions].tolist(),
        )

    def _scored(self, candidates: _Candidates, index: int) -> Scored[Demonstration]:
        item = self._bank.demonstrations[candidates.positions[index]]
        return Scored(item, float(candidates.similarities[index]))

    def _choose(
        self,
        judged: _Judged,
        candidates: _Candidates,
        profile: Profile,
        record: Record | None = None,
    ) -> Selection:
        settings = profile.retrieval
        route = choose_route(judged.risk, settings.thresholds)
        if route not in profile.aligned_routes:
            if record is not None:
                record.reasons = dict.fromkeys(range(len(candidates.positions)), Reason.NOT_ALIGNED)
            return Selection(judged.risk, route, (), (), (), ())
        chosen = select(
            candidates.similarities,
            candidates.vectors,
            candidates.risks,
            candidates.num_tokens,
            quotas=settings.quotas.get(route, {}),
            count=settings.num_demonstrations,
            budget_tokens=settings.budget_tokens - self._pinned_tokens,
            mmr_lambda=settings.mmr_lambda,
            min_similarity=settings.min_similarity,
            record=record,
        )
        return Selection(
            risk=judged.risk,
            route=route,
            principles=tuple(item for item in self._profile.constitution.principles if item.pinned),
            retrieved_principles=self._choose_principles(judged.vector, route, profile),
            pinned=self._profile.pinned,
            demonstrations=tuple(self._scored(candidates, i) for i in arrange(chosen, settings.order)),
            reminder=profile.reminders.get(route, ""),
            opening=profile.openings.get(route, ""),
        )

    def _judged(self, query: str, profile: Profile) -> _Judged:
        """The whole of `query`, or that passage which puts it on a riskier route, and is what to retrieve for."""
        texts = [query, *passages(query)]
        vectors = self._judge.embed(texts)
        voters = [self._voters(vector) for vector in vectors]
        risks = [self._risk(item, profile) for item in voters]
        routes = [choose_route(risk, profile.retrieval.thresholds) for risk in risks]
        riskiest = max(range(len(texts)), key=risks.__getitem__)
        deciding = 0 if routes[riskiest] is routes[0] else riskiest
        is_same = self._judge is self._topics
        vector = vectors[deciding] if is_same else self._topics.embed([texts[deciding]])[0]
        return _Judged(vector, voters[deciding], risks[deciding], texts[deciding] if deciding else None)

    def _risk(self, voters: _Voters, profile: Profile) -> float:
        harmful = np.array([item.is_harmful for item in voters.items], np.bool_)
        score = score_risk(voters.similarities, harmful, profile.retrieval.num_neighbours)
        return calibrate(score, self._harmless_scores)

    def _voters(self, vector: Vectors) -> _Voters:
        pinned = self._risk_store.similarities(self._pinned_rows, vector)
        in_bank, found = self._bank.judging.nearest(vector), self._risk_index.index.nearest(vector)
        demonstrations = [self._bank.demonstrations[i] for i in in_bank.positions.tolist()]
        messages = [self._risk_index.messages[i] for i in found.positions.tolist()]
        return _Voters(
            [*demonstrations, *self._profile.pinned, *messages],
            np.concatenate([in_bank.similarities, pinned, found.similarities]),
        )

    def _choose_principles(self, vector: Vectors, route: Route, profile: Profile) -> tuple[Scored[Principle], ...]:
        """The best by weight times similarity among those for this route and scope, in the constitution's order."""
        ranked = self._rank_principles(vector, route, profile)
        chosen = sorted((i, similarity) for i, similarity, reason in ranked if reason is Reason.CHOSEN)
        return tuple(Scored(_open(self._retrievable[i], profile.scope), similarity) for i, similarity in chosen)

    def _rank_principles(self, vector: Vectors, route: Route, profile: Profile) -> list[tuple[int, float, Reason]]:
        """Index, similarity and fate of each that is not pinned, the highest weight times similarity first."""
        similarities = self._store.similarities(self._principle_rows, vector).tolist()
        order = sorted(range(len(similarities)), key=lambda i: -self._retrievable[i].weight * similarities[i])
        left, ranked = profile.retrieval.num_principles, []
        for i in order:
            reason = _bar(self._retrievable[i], route, profile) or (Reason.CHOSEN if left else Reason.OUTRANKED)
            left -= reason is Reason.CHOSEN
            ranked.append((i, similarities[i], reason))
        return ranked


def _bar(item: Principle, route: Route, profile: Profile) -> Reason | None:
    """What keeps `item` from being retrieved, however near it is."""
    if route not in profile.aligned_routes:
        return Reason.NOT_ALIGNED
    if route not in item.routes:
        return Reason.OTHER_ROUTE
    return None if _counts(item, profile.scope) else Reason.OUT_OF_SCOPE


def _counts(item: Principle, scope: Mapping[str, str]) -> bool:
    """Whether nothing known of the request puts it outside the scope of `item`."""
    return all(scope.get(dimension) in {None, *values} for dimension, values in item.scope.items())


def _open(item: Principle, scope: Mapping[str, str]) -> Principle:
    """`item` with only those dimensions of its scope that are left to judge."""
    return replace(item, scope={name: values for name, values in item.scope.items() if name not in scope})


class Retrievers:
    """Builds retrievers. What was computed for those that are in use is kept, so an edit costs and takes little."""

    def __init__(
        self,
        embedder: Embedder,
        count_tokens: Callable[[str], int],
        *,
        counter: str = "",
        cache: DiskCache | None = None,
        report: Report = lambda _: None,
    ) -> None:
        """`counter` names what counts tokens. `cache` keeps what is computed; `report` is told of long steps."""

        def count(texts: Sequence[str]) -> NDArray[np.int32]:
            return np.array([[count_tokens(text)] for text in texts], np.int32)

        def store_of(item: Embedder) -> VectorStore:
            return VectorStore(Remembered(vectors_kind(item), item.embed, np.float32, item.dimension, cache, report))

        topics, judge = split(embedder)
        self._embedder = embedder
        self._store = store_of(topics)
        self._risk_store = self._store if judge is topics else store_of(judge)
        self._counted = Remembered(f"token counts by {counter}", count, np.int32, 1, cache, report)
        self._num_tokens: dict[Demonstration, int] = {}
        self._banks: WeakSet[Bank] = WeakSet()
        self._risk_indexes: WeakSet[RiskIndex] = WeakSet()
        self._built: WeakSet[Retriever] = WeakSet()

    def build(self, profiles: Iterable[Profile]) -> Mapping[str, Retriever]:
        """A retriever for each profile, by `id@version`."""
        profiles = list(profiles)
        shared = {id(profile.demonstrations): profile.demonstrations for profile in profiles}
        judging = {id(profile.risk_messages): profile.risk_messages for profile in profiles}
        shown = list(chain(*shared.values(), *(profile.pinned for profile in profiles)))
        principles = chain(*map(_retrievable, profiles))
        messages = chain(*judging.values())
        self._store.add(chain((item.user for item in shown), map(_principle_text, principles)))
        self._risk_store.add(chain((item.user for item in shown), (item.user for item in messages)))
        self._num_tokens = self._count(shown)
        banks = {identity: self._bank(demonstrations) for identity, demonstrations in shared.items()}
        risk = {identity: self._index_risk(messages) for identity, messages in judging.items()}
        built = {
            profile.label: self._retriever(profile, banks[id(profile.demonstrations)], risk[id(profile.risk_messages)])
            for profile in profiles
        }
        self._built.update(built.values())
        self._forget()
        return built

    def _forget(self) -> None:
        """What none of the retrievers in use needs goes from the stores."""
        rows = [rows for retriever in self._built for rows in retriever.rows]
        risk_rows = [rows for retriever in self._built for rows in retriever.risk_rows]
        if self._risk_store is self._store:
            self._store.keep([*rows, *risk_rows])
        else:
            self._store.keep(rows)
            self._risk_store.keep(risk_rows)

    def _bank(self, demonstrations: tuple[Demonstration, ...]) -> Bank:
        for known in self._banks:
            if known.demonstrations == demonstrations:
                return known
        users = [item.user for item in demonstrations]
        risks = tuple(item.risk for item in demonstrations)
        num_tokens = np.fromiter(map(self._num_tokens.__getitem__, demonstrations), np.int32, len(demonstrations))
        index = NeighbourIndex(self._store, self._store.rows(users), risks)
        is_one = self._risk_store is self._store
        judging = index if is_one else NeighbourIndex(self._risk_store, self._risk_store.rows(users), risks)
        bank = Bank(demonstrations, index, judging, risks, num_tokens)
        self._banks.add(bank)
        return bank

    def _index_risk(self, messages: tuple[RiskMessage, ...]) -> RiskIndex:
        for known in self._risk_indexes:
            if known.messages == messages:
                return known
        rows = self._risk_store.rows([item.user for item in messages])
        harmful = np.array([item.is_harmful for item in messages], np.bool_)
        calibrating = [i for i, item in enumerate(messages) if not item.is_harmful and is_held_out(item.user)]
        similarities, nearest = nearest_others(self._risk_store.vectors[rows], calibrating)
        labels = ["harmful" if item.is_harmful else "harmless" for item in messages]
        index = NeighbourIndex(self._risk_store, rows, labels)
        risk_index = RiskIndex(messages, index, similarities, harmful[nearest])
        self._risk_indexes.add(risk_index)
        return risk_index

    def _retriever(self, profile: Profile, bank: Bank, risk_index: RiskIndex) -> Retriever:
        pinned_tokens = sum(self._num_tokens[item] for item in profile.pinned)
        return Retriever(profile, self._embedder, bank, risk_index, self._store, self._risk_store, pinned_tokens)

    def _count(self, shown: Sequence[Demonstration]) -> dict[Demonstration, int]:
        """What each of `shown` costs in a prompt."""
        new = [item for item in shown if item not in self._num_tokens]
        texts = dict.fromkeys(text for item in new for turn in item.exchanges for text in (turn.user, turn.assistant))
        counts = {
            text: number
            for part, numbers in self._counted.of(list(texts))
            for text, number in zip(part, numbers[:, 0].tolist(), strict=True)
        }
        known = self._num_tokens | {item: item.num_tokens(counts.__getitem__) for item in new}
        return {item: known[item] for item in shown}


def vectors_kind(embedder: Embedder) -> str:
    """What a cache calls the vectors of `embedder`."""
    return f"vectors by {embedder.name}"


def _retrievable(profile: Profile) -> Sequence[Principle]:
    return [item for item in profile.constitution.principles if not item.pinned]


def _principle_text(item: Principle) -> str:
    return item.when or item.text
