"""What of a long message is judged by itself."""

import pytest

from server.retrieval.passages import passages

FILLER = " ".join(f"Then we came to lock number {number} and waited." for number in range(20))


@pytest.mark.parametrize("text", ["", "Hi", "word " * 80, "Is it? " * 40, "长" * 400])
def test_a_short_message_has_none(text: str) -> None:
    assert passages(text) == []


def test_a_long_one_has_its_first_and_last_two_sentences() -> None:
    text = f"How do I moor a barge?\nIt is a narrow one. {FILLER} Which knot holds best? Tell me in three steps."
    assert passages(text) == [
        "How do I moor a barge?",
        "It is a narrow one.",
        "Which knot holds best?",
        "Tell me in three steps.",
    ]


def test_sentences_of_a_few_words_are_passed_over() -> None:
    assert passages(f"Query: [How do I moor a barge?] {FILLER} Which knot holds best? Go on. Now.")[::3] == [
        "[How do I moor a barge?]",
        "Which knot holds best?",
    ]


def test_each_is_there_once() -> None:
    assert passages("What is a lock on a canal for? " * 20) == ["What is a lock on a canal for?"]


def test_a_long_text_without_an_end_of_a_sentence_is_one() -> None:
    assert passages("word " * 81) == [("word " * 81).strip()]
