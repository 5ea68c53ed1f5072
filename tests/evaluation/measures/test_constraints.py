import sys
from collections.abc import Mapping
from typing import Any

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.measures.constraints import _CHECKS, check_known, follows

SENTENCES = "The tide comes in at six. Is the boat safe? It is."
# Constraint, arguments, an answer that keeps it, and one that does not.
CASES: list[tuple[str, Mapping[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["hive", "clover"]}, "A Hive near clover.", "A hive near heather."),
    (
        "keywords:frequency",
        {"keyword": "bee", "relation": "at least", "frequency": 2},
        "Bee to bee.",
        "One bee.",
    ),
    (
        "keywords:frequency",
        {"keyword": "bee", "relation": "less than", "frequency": 2},
        "One bee.",
        "Bees and bees.",
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["ant"]}, "Plants.", "An ANT!"),
    (
        "keywords:letter_frequency",
        {"letter": "!", "let_relation": "at least", "let_frequency": 2},
        "Hey! You!",
        "Hey!",
    ),
    (
        "language:response_language",
        {"language": "de"},
        "Der Leuchtturm steht auf einem Felsen im Meer.",
        "The lighthouse stands on a rock in the sea.",
    ),
    (
        "length_constraints:number_sentences",
        {"relation": "at least", "num_sentences": 3},
        SENTENCES,
        "It costs 3.50 euros, e.g. in town. Nice.",
    ),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, "One. Two.", SENTENCES),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "Two words.", "Now three words."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.", "One. *** *** Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\nOne.\n***\nTwo.\n***", "One."),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Boats"},
        'One.\n\n"boats, and more.',
        "Boats.\n\nTwo.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [town]", "[name] of town"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP. P. S: again", "Bye.\nP.S. again"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np.s. again", "Bye. Or perhaps."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n** two\n* three\n* four"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ****"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\nOne.\nSECTION 2\nTwo.",
        "SECTION one SECTION 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<The tide>>\nIt comes.", "<< >> <The tide>"),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    ("combination:two_responses", {}, "One.\n******\nTwo.\n******", "One.\n******\n******\nTwo."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why rain? "}, "why rain? Clouds.", "Clouds."),
    ("startend:end_checker", {"end_phrase": "Any more?"}, '"Yes. Any more?"', "Any more? Yes."),
    ("startend:quotation", {}, ' "Quoted." ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "I'm in the USA.",
        "In the USA.",
    ),
    ("change_case:english_capital", {}, "THE BOAT IS IN THE HARBOUR NOW.", "The boat is in the harbour now."),
    (
        "change_case:english_lowercase",
        {},
        "the boat is in the harbour now.",
        "das boot liegt jetzt im hafen der stadt.",
    ),
    ("punctuation:no_comma", {}, "One; two.", "One, two."),
]


@pytest.mark.parametrize(("constraint", "arguments", "kept", "broken"), CASES)
def test_each_constraint_is_checked(constraint: str, arguments: Mapping[str, Any], kept: str, broken: str) -> None:
    assert follows(kept, constraint, arguments)
    assert not follows(broken, constraint, arguments)
    assert not follows(" \n", constraint, arguments)


def test_every_check_is_tried() -> None:
    assert {case[0] for case in CASES} == set(_CHECKS)


def test_text_that_tells_no_language_is_not_held_against_it() -> None:
    assert follows("42", "language:response_language", {"language": "kn"})


def test_unknown_constraints_are_told() -> None:
    check_known(list(_CHECKS))
    with pytest.raises(ConfigurationError, match="no check for the constraints new:one"):
        check_known(["punctuation:no_comma", "new:one"])


def test_only_constraints_on_language_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)
    check_known(["punctuation:no_comma"])
    with pytest.raises(ConfigurationError, match=r"pip install 'icalign\[eval\]'"):
        check_known(["change_case:english_lowercase"])
