from dataclasses import replace

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.datasets import Label, Message
from server.evaluation.held_out import split_tasks
from server.evaluation.measures.base import Task


def tasks(name: str, label: Label, count: int, text: str = "") -> list[Task]:
    return [
        Task("frontier", name, str(number), (Message("user", f"{text or name} {number}"),), label=label)
        for number in range(count)
    ]


BOMBS, SOUPS = tasks("bombs", Label.HARMFUL, 40), tasks("soups", Label.HARMLESS, 10)


def test_no_prompt_is_on_both_sides() -> None:
    split = split_tasks([*BOMBS, *SOUPS], 15, seed=3)
    assert [sum(task.set == name for task in split.held_out) for name in ("bombs", "soups")] == [15, 5]
    assert {name: len(found) for name, found in split.development.items()} == {"bombs": 25, "soups": 5}
    assert split.size == 25
    drawn = split.drawn(25)
    assert not {(task.set, task.id) for task in drawn} & {(task.set, task.id) for task in split.held_out}
    assert len(drawn) == 30


def test_a_text_of_two_sets_is_on_one_side() -> None:
    copied = tasks("copied", Label.HARMFUL, 40, text="  Bombs ")
    split = split_tasks([*BOMBS, *copied, *SOUPS], 20, seed=3)
    sides = (split.held_out, split.drawn(99))
    one, other = ({task.messages[0].content.strip().casefold() for task in side} for side in sides)
    assert not one & other


def test_more_prompts_contain_the_fewer_and_the_seed_decides() -> None:
    split = split_tasks([*BOMBS, *SOUPS], 15, seed=3)
    assert {task.id for task in split.drawn(4)} <= {task.id for task in split.drawn(8)}
    assert len(split.drawn(4)) == 8
    assert split == split_tasks([*BOMBS, *SOUPS], 15, seed=3)
    assert split.held_out != split_tasks([*BOMBS, *SOUPS], 15, seed=4).held_out


def test_both_sides_need_both_labels() -> None:
    with pytest.raises(ConfigurationError, match="no harmless prompts held out"):
        split_tasks(BOMBS, 15, seed=3)
    with pytest.raises(ConfigurationError, match="no harmless prompts to choose by"):
        split_tasks([*BOMBS, *SOUPS[:1]], 15, seed=3)
    both = [replace(task, set="both", id=f"{task.set}-{task.id}") for task in (*BOMBS, *SOUPS)]
    with pytest.raises(ConfigurationError, match="no harm(ful|less) prompts among 1 of each"):
        split_tasks(both, 20, seed=3).drawn(1)
