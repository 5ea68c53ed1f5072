import pytest

from server.evaluation.measures.base import Answer
from server.evaluation.measures.form import form_values, is_loop, repeated_share


def test_an_answer_in_good_form() -> None:
    values = form_values(Answer("Knead the dough, let it rise, and bake it hot.", "stop"))
    assert values == {"stopped": 1, "invented_turns": 0, "looped": 0, "words": 10, "repeated": 0}


def test_an_answer_that_was_cut_off_did_not_stop() -> None:
    assert form_values(Answer("Knead the dough and", "length"))["stopped"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "Bake it.\nUser: And then?",
        "Bake it.\n\n## Query:\nAnd then?",
        "Bake it.\n**Human**: And then?",
        "Assistant: Bake it.",
        "Bake it.<|im_end|>",
        "Bake it.<end_of_turn>\n<start_of_turn>user",
        "Bake it.\n~~~~\n\n# Answer:",
    ],
)
def test_turns_of_its_own_are_found(text: str) -> None:
    assert form_values(Answer(text, "stop"))["invented_turns"] == 1


@pytest.mark.parametrize("text", ["The user: who is it?", "Every human: a story. Query the table: fast.", "# Answers"])
def test_what_only_sounds_like_turns_is_none(text: str) -> None:
    assert form_values(Answer(text, "stop"))["invented_turns"] == 0


def test_a_short_answer_has_no_share_of_repetition() -> None:
    assert "repeated" not in form_values(Answer("Bake it hot.", "stop"))


def test_the_share_of_repetition() -> None:
    assert repeated_share(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert repeated_share(["a"] * 13) == pytest.approx(9 / 10)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("no " * 13, True),
        ("ha " * 6, False),
        ("So: " + "I can help you with that. " * 4, True),
        ("I can help you with that. " * 2, False),
        ("one two three four five six seven eight nine ten eleven twelve thirteen " * 2, True),
        ("A list: milk, bread, eggs, and a list of what is left to buy for the week.", False),
        ("", False),
    ],
)
def test_a_loop_ends_with_the_same_words_over_and_over(text: str, loops: bool) -> None:
    assert is_loop(text.split()) is loops


def test_a_word_cut_off_hides_no_loop() -> None:
    assert form_values(Answer("I will help. " * 6 + "I wi", "length"))["looped"] == 1
