"""The measures by name."""

from collections.abc import Callable, Mapping, Sequence

from server.core.errors import ConfigurationError
from server.evaluation.measures.attacks import Attacks
from server.evaluation.measures.base import Measure, Plan
from server.evaluation.measures.frontier import Frontier
from server.evaluation.measures.judged import Judges
from server.evaluation.measures.preference import Preference
from server.evaluation.measures.tax import Tax

MEASURES: Mapping[str, Callable[[Judges], Measure]] = {
    "frontier": Frontier,
    "attacks": Attacks,
    "tax": lambda _: Tax(),
    "preference": lambda _: Preference(),
}


def build_measures(names: Sequence[str], judges: Judges, plan: Plan) -> list[Measure]:
    """The measures of these names, all unless any is given, that have something to ask by `plan`.

    Raises ConfigurationError for an unknown measure, for a set that none of them takes, and for a measure named that
    takes none of the plan's sets.
    """
    if unknown := [name for name in names if name not in MEASURES]:
        raise ConfigurationError(f"measure: there is no {unknown[0]!r}; there are {', '.join(MEASURES)}.")
    measures = [build(judges) for name, build in MEASURES.items() if name in (names or MEASURES)]
    known = frozenset[str]().union(*(measure.sets.known for measure in measures))
    if unknown := [name for name in plan.sets if name not in known]:
        raise ConfigurationError(f"set: no measure here takes {unknown[0]!r}; they take {', '.join(sorted(known))}.")
    idle = [measure.name for measure in measures if not measure.sets.chosen(plan)]
    if names and idle:
        raise ConfigurationError(f"measure: {idle[0]} takes none of the sets {', '.join(plan.sets)}.")
    return [measure for measure in measures if measure.name not in idle]
