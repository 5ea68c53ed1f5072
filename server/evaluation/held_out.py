"""Parts prompts into those that settings are chosen by and others that tell, afterwards, how good the choice is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.core.errors import ConfigurationError
from server.evaluation.datasets import Label, sample
from server.evaluation.measures.attacks import AFTER_HISTORY, after_histories
from server.evaluation.measures.base import Task


@dataclass(frozen=True)
class Split:
    """Tasks by set to choose by, and held-out ones; no prompt is on both sides."""

    development: Mapping[str, Sequence[Task]]
    held_out: Sequence[Task]
    seed: int

    @property
    def size(self) -> int:
        """How many tasks the largest set has to choose by."""
        return max(map(len, self.development.values()))

    def drawn(self, count: int) -> list[Task]:
        """At most `count` of each set to choose by, by chance; of more, those of fewer are a part.

        Raises ConfigurationError where so few lack harmful or harmless ones.
        """
        drawn = [task for tasks in self.development.values() for task in sample(tasks, count, seed=self.seed)]
        _check(drawn, f"among {count} of each")
        return drawn


def split_tasks(tasks: Iterable[Task], num_held_out: int, seed: int) -> Split:
    """Of each set at most `num_held_out` tasks, and no more than half, are held out, by chance.

    What has the same text as one of them in any set is not among the others, since sets borrow from each other. Raises
    ConfigurationError where a side lacks harmful or harmless prompts.
    """
    by_set: dict[str, list[Task]] = {}
    for task in tasks:
        by_set.setdefault(task.set, []).append(task)
    held_out = [
        task for found in by_set.values() for task in sample(found, min(num_held_out, (len(found) + 1) // 2), seed=seed)
    ]
    texts = {_text(task) for task in held_out}
    development = {name: [task for task in found if _text(task) not in texts] for name, found in by_set.items()}
    _check(held_out, "held out")
    _check([task for found in development.values() for task in found], "to choose by")
    return Split(development, held_out, seed)


def with_histories(split: Split, num_held_out: int) -> Split:
    """`split` with a set more on either side: its harmful prompts, each after a history of others, complied with.

    Without it a search would not see the worth of what holds after such a history. At most `num_held_out` of them are
    held out.
    """
    known = [task for tasks in split.development.values() for task in tasks]
    development = {**split.development, AFTER_HISTORY: after_histories(known, split.seed)}
    held_out = sample(after_histories(split.held_out, split.seed), num_held_out, seed=split.seed)
    return Split(development, [*split.held_out, *held_out], split.seed)


def _text(task: Task) -> str:
    return " ".join(task.messages[-1].content.casefold().split())


def _check(tasks: Sequence[Task], what: str) -> None:
    labels = {task.label for task in tasks}
    if lacking := [label.value for label in Label if label not in labels]:
        raise ConfigurationError(
            f"set: there are no {lacking[0]} prompts {what}; name sets with two or more harmful and harmless ones each."
        )
