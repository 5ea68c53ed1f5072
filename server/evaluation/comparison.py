"""Which rows belong together, and how two sides differ over what both were asked: two arms of a run, or two runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.core.errors import ConfigurationError
from server.evaluation.measures.base import Figure
from server.evaluation.measures.generated import GENERATED_FIGURES
from server.evaluation.rows import Row
from server.evaluation.runs import Run
from server.evaluation.statistics import Estimate, Values, difference, estimate

SUMMED_UP = frozenset({"stopped", "alignment_tokens", "latency"})
"""Of the figures that every generated answer has, those that a summary shows."""

COMPLETION_TOKENS = "completion_tokens"
"""A figure of every row whose engine tells it."""


@dataclass(frozen=True)
class Group:
    """Rows of a measure that are averaged together: of a set, or of all sets where `set` is empty.

    `label` is of Label, None where the set does not say.
    """

    measure: str
    set: str
    label: str | None

    @property
    def title(self) -> str:
        """For people."""
        return self.set or f"all {self.label or 'sets'}"


class Measured:
    """The values of rows by arm, group and figure. Rows that failed have none."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._values: dict[tuple[str, Group, str], dict[tuple[str, str], float]] = {}
        for row in rows:
            group = Group(row.measure, row.set, row.label)
            for name, value in _values_of(row).items():
                values = self._values.setdefault((row.arm, group, name), {})
                values[(f"{row.measure}/{row.set}/{row.id}", row.variant)] = value

    def groups(self, measure: str, figure: str) -> Sequence[Group]:
        """Those of `measure` with values of `figure`, by label; where a label has several sets, all of them first."""
        found = {group for _, group, name in self._values if group.measure == measure and name == figure}
        sets = sorted(found, key=lambda group: (group.label or "", group.set))
        labels = dict.fromkeys(group.label for group in sets)
        return [group for label in labels for group in _with_all([group for group in sets if group.label == label])]

    def values(self, arm: str, group: Group, figure: str) -> Values:
        """Empty where nothing was measured."""
        if group.set:
            return self._values.get((arm, group, figure), {})
        return self._join(arm, figure, lambda other: (other.measure, other.label) == (group.measure, group.label))

    def everywhere(self, arm: str, figure: str) -> Values:
        """Whatever the measure."""
        return self._join(arm, figure, lambda _: True)

    def _join(self, arm: str, figure: str, is_wanted: Callable[[Group], bool]) -> Values:
        return {
            key: value
            for (one, group, name), values in self._values.items()
            if (one, name) == (arm, figure) and is_wanted(group)
            for key, value in values.items()
        }


@dataclass(frozen=True)
class Difference:
    """How much higher `after` is than `before`, over what both were asked, with all three as estimates."""

    arm: str
    group: Group
    figure: Figure
    before: Estimate
    after: Estimate
    change: Estimate

    @property
    def is_better(self) -> bool | None:
        """None where the interval holds zero, or where neither direction is better."""
        higher_is_better = self.figure.higher_is_better
        if higher_is_better is None or not self.change.excludes_zero:
            return None
        return (self.change.mean > 0) is higher_is_better


def first_by_label(groups: Sequence[Group]) -> list[Group]:
    """Of each label the first, which is over all sets."""
    return list({group.label: group for group in reversed(groups)}.values())[::-1]


def compare_values(arm: str, group: Group, figure: Figure, one: Values, other: Values) -> Difference:
    """`other` against `one`, over the keys that both have."""
    shared = one.keys() & other.keys()
    before, after = ({key: side[key] for key in shared} for side in (one, other))
    is_share = figure.unit == "share"
    return Difference(
        arm,
        group,
        figure,
        estimate(before, is_share=is_share),
        estimate(after, is_share=is_share),
        difference(after, before, is_share=is_share),
    )


def compare_runs(before: Run, after: Run) -> list[Difference]:
    """Arm by arm: those of the same id, or the only ones of both.

    Raises ConfigurationError where there are none, or where they were not asked the same.
    """
    old, new = Measured(before.rows.values()), Measured(after.rows.values())
    known = {(item.name, figure.name) for item in before.head.measures for figure in item.figures}
    differences = [
        compare_values(arm, group, figure, old.values(base, group, figure.name), new.values(arm, group, figure.name))
        for base, arm in _pair_arms(before, after)
        for measure in after.head.measures
        for figure in measure.figures
        if (measure.name, figure.name) in known
        for group in new.groups(measure.name, figure.name)
    ]
    found = [item for item in differences if item.change.n]
    if not found:
        raise ConfigurationError(f"compare: {before.folder} and {after.folder} have no answered prompt in common.")
    return found


def summary_of(differences: Sequence[Difference]) -> list[Difference]:
    """Those over all sets of a label, without most of what every generated answer has."""
    groups: dict[tuple[str, Figure], list[Group]] = {}
    for item in differences:
        groups.setdefault((item.group.measure, item.figure), []).append(item.group)
    return [
        item
        for item in differences
        if item.group in first_by_label(groups[item.group.measure, item.figure])
        if item.figure not in GENERATED_FIGURES or item.figure.name in SUMMED_UP
    ]


def tell_differences(before: Run, after: Run) -> list[str]:
    """What two runs were asked otherwise, in words."""
    one, other = before.head, after.head
    found = [
        f"{name} {getattr(one, name)} → {getattr(other, name)}"
        for name in ("model", "icalign", "embedder")
        if getattr(one, name) != getattr(other, name)
    ]
    names = dict.fromkeys((*one.settings, *other.settings))
    found += [
        f"{name} {one.settings.get(name)} → {other.settings.get(name)}"
        for name in names
        if one.settings.get(name) != other.settings.get(name)
    ]
    profiles = {arm.id: arm.profile for arm in one.arms}
    return found + [
        f"arm {arm.id} {profiles[arm.id]} → {arm.profile}"
        for arm in other.arms
        if profiles.get(arm.id, arm.profile) != arm.profile
    ]


def _values_of(row: Row) -> Mapping[str, float]:
    if row.error is not None:
        return {}
    return row.values if row.completion_tokens is None else {**row.values, COMPLETION_TOKENS: row.completion_tokens}


def _pair_arms(before: Run, after: Run) -> list[tuple[str, str]]:
    old, new = ([arm.id for arm in run.head.arms] for run in (before, after))
    if len(old) == len(new) == 1:
        return [(old[0], new[0])]
    shared = [(arm, arm) for arm in new if arm in old]
    if not shared:
        raise ConfigurationError(f"compare: no arm of {', '.join(old)} is among {', '.join(new)}.")
    return shared


def _with_all(groups: Sequence[Group]) -> list[Group]:
    first = groups[0]
    return [Group(first.measure, "", first.label), *groups] if len(groups) > 1 else list(groups)
