from dataclasses import replace

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.datasets import Label, Message, Prompt
from server.evaluation.held_out import split_tasks, with_histories
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


def test_harmful_prompts_are_asked_after_others_of_their_side_too() -> None:
    asked = [replace(task, prompt=Prompt(task.id, task.messages, task.label)) for task in (*BOMBS, *SOUPS)]
    plain = split_tasks(asked, 15, seed=3)
    split = with_histories(plain, 10)
    known, added = split.development["after_history"], split.held_out[len(plain.held_out) :]
    assert [*plain.held_out, *added] == split.held_out
    assert (len(known), len(added)) == (25, 10)
    assert known[0].id == "bombs/" + plain.development["bombs"][0].id
    for tasks_after, own in ((known, plain.development["bombs"]), (added, plain.held_out)):
        for task in tasks_after:
            users = [message.content for message in task.messages if message.role == "user"]
            assert len(users) == len(set(users)) > 4
            assert set(users) <= {item.messages[-1].content for item in own}
