"""Says in words why demonstrations and principles were chosen or not. The choosing itself is the selector's."""

from collections.abc import Iterable, Mapping, Sequence

from server.core.types import Demonstration, Judged, Principle, Profile, Reason, Route, Scored
from server.retrieval.selector import POOL_PER_RISK, Record


def judge_demonstrations(
    asked: Mapping[int, Scored[Demonstration]],
    bank: Sequence[Demonstration],
    record: Record,
    route: Route,
    profile: Profile,
) -> tuple[Judged[Demonstration], ...]:
    """Those of `asked`, which has them by their index in `bank`, with what `record` says of them."""
    return tuple(
        Judged(scored.item, scored.similarity, record.reason(i), _why(i, scored.item, bank, record, route, profile))
        for i, scored in asked.items()
    )


def judge_principles(
    ranked: Iterable[tuple[Principle, float, Reason]], route: Route, profile: Profile
) -> tuple[Judged[Principle], ...]:
    """Those of `ranked`, which come with their similarity to the request."""
    return tuple(
        Judged(item, near, reason, _why_principle(item, reason, route, profile)) for item, near, reason in ranked
    )


def _why(
    index: int, item: Demonstration, bank: Sequence[Demonstration], record: Record, route: Route, profile: Profile
) -> str:
    settings, reason, risk = profile.retrieval, record.reason(index), item.risk.value
    quota = settings.quotas.get(route, {}).get(item.risk, 0)
    if reason is Reason.CHOSEN:
        return f"chosen as number {record.picked.index(index) + 1}"
    if reason is Reason.LESS_VARIED:
        return f"too much like those chosen before; {bank[record.rivals[index]].id}, though less similar, adds more"
    return {
        Reason.TOO_FAR: f"too far: less similar than min_similarity, {settings.min_similarity:g}",
        Reason.NO_QUOTA: f"the {route.value} route has no quota for {risk} ones",
        Reason.OUT_OF_POOL: f"{POOL_PER_RISK} {risk} ones are nearer",
        Reason.QUOTA_SPENT: f"the {route.value} route's quota of {quota} {risk} is spent on nearer ones",
        Reason.OVER_BUDGET: f"too long for what is left of budget_tokens, {settings.budget_tokens}",
        Reason.ENOUGH: f"num_demonstrations, {settings.num_demonstrations}, are chosen already",
        Reason.NOT_ALIGNED: _why_not_aligned(route),
    }[reason]


def _why_principle(item: Principle, reason: Reason, route: Route, profile: Profile) -> str:
    limit = profile.retrieval.num_principles
    known = profile.scope.items()
    other = ", ".join(f"{name} {value}" for name, value in known if value not in item.scope.get(name, (value,)))
    return {
        Reason.CHOSEN: f"chosen, by weight {item.weight:g} times similarity",
        Reason.OTHER_ROUTE: f"is for the routes {', '.join(sorted(item.routes))}, and this one is {route.value}",
        Reason.OUT_OF_SCOPE: f"is not for {other}",
        Reason.OUTRANKED: f"outranked: num_principles, {limit}, have a higher weight times similarity",
        Reason.NOT_ALIGNED: _why_not_aligned(route),
    }[reason]


def _why_not_aligned(route: Route) -> str:
    return f"the {route.value} route is not among the profile's aligned_routes"
