"""Whether an answer keeps the constraints of IFEval (Zhou et al. 2023, arXiv:2311.07911), by their ids.

The rules are those of the paper's own program, counted strictly: on the answer as it is. Two of its tools need data
that must be downloaded, so they are replaced: sentences end where a mark is followed by a space and no small letter,
and languages are told by py3langid, of the extra `eval`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from server.core.errors import ConfigurationError

Arguments: TypeAlias = Mapping[str, Any]
"""Of a constraint, as the data set has them."""

_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
_WORD = re.compile(r"\w+")
_WHOLE_WORD = re.compile(r"\w+(?:[-.]\w+)*")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+(?![a-z\s])")  # noqa: RUF001 - typographic marks end sentences too
_UNDECIDED = -1e30


def check_known(ids: Sequence[str]) -> None:
    """Raises ConfigurationError for ids that nothing is known of, and where what tells languages is missing."""
    unknown = sorted(set(ids) - _CHECKS.keys())
    if unknown:
        raise ConfigurationError(f"data: there is no check for the constraints {', '.join(unknown)}.")
    if _IN_A_LANGUAGE & set(ids):
        _identify("")


def follows(answer: str, constraint: str, arguments: Arguments) -> bool:
    """Whether `answer` keeps it; an empty answer keeps none."""
    return bool(answer.strip()) and _CHECKS[constraint](answer, arguments)


def _compare(number: int, relation: str, limit: int) -> bool:
    return number < limit if relation == "less than" else number >= limit


def _count(pattern: str, answer: str) -> int:
    return len(re.findall(pattern, answer, re.IGNORECASE | re.MULTILINE))


def _has_keywords(answer: str, arguments: Arguments) -> bool:
    return all(_count(re.escape(word), answer) for word in arguments["keywords"])


def _has_keyword_often(answer: str, arguments: Arguments) -> bool:
    number = _count(re.escape(arguments["keyword"].strip()), answer)
    return _compare(number, arguments["relation"], arguments["frequency"])


def _lacks_words(answer: str, arguments: Arguments) -> bool:
    return not any(_count(rf"\b{re.escape(word)}\b", answer) for word in arguments["forbidden_words"])


def _has_letter_often(answer: str, arguments: Arguments) -> bool:
    number = answer.lower().count(arguments["letter"].strip().lower())
    return _compare(number, arguments["let_relation"], arguments["let_frequency"])


def _is_in_language(answer: str, arguments: Arguments) -> bool:
    return _identify(answer) in {None, arguments["language"]}


def _has_sentences(answer: str, arguments: Arguments) -> bool:
    number = len(_SENTENCE_END.findall(answer.strip())) + 1
    return _compare(number, arguments["relation"], arguments["num_sentences"])


def _has_words(answer: str, arguments: Arguments) -> bool:
    return _compare(len(_WORD.findall(answer)), arguments["relation"], arguments["num_words"])


def _has_paragraphs(answer: str, arguments: Arguments) -> bool:
    """Divided by three asterisks."""
    return _num_parts(answer, r"\s?\*\*\*\s?") == int(arguments["num_paragraphs"])


def _num_parts(answer: str, divider: str) -> int:
    """0 where a part between two others is empty."""
    first, *between = re.split(divider, answer)
    last = [between.pop()] if between else []
    if not all(part.strip() for part in between):
        return 0
    return len(between) + sum(bool(part.strip()) for part in (first, *last))


def _begins_paragraph(answer: str, arguments: Arguments) -> bool:
    """Divided by an empty line; the paragraph asked for begins with the word."""
    parts = answer.split("\n\n")
    number = sum(bool(part.strip()) for part in parts)
    place = arguments["nth_paragraph"]
    if number != arguments["num_paragraphs"] or place > number or not parts[place - 1].strip():
        return False
    word = parts[place - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == str(arguments["first_word"]).lower()


def _has_placeholders(answer: str, arguments: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= int(arguments["num_placeholders"])


def _has_postscript(answer: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"].strip()
    return _count(_POSTSCRIPTS.get(marker, re.escape(marker)), answer) > 0


def _has_bullets(answer: str, arguments: Arguments) -> bool:
    number = _count(r"^\s*\*[^\*].*$", answer) + _count(r"^\s*-.*$", answer)
    return number == int(arguments["num_bullets"])


def _is_an_option(answer: str, _: Arguments) -> bool:
    return any(option in answer for option in _OPTIONS)


def _has_highlights(answer: str, arguments: Arguments) -> bool:
    found = [mark.strip("*") for mark in re.findall(r"\*[^\n\*]*\*", answer)]
    found += [mark[2:-2] for mark in re.findall(r"\*\*[^\n\*]*\*\*", answer)]
    return sum(bool(text.strip()) for text in found) >= int(arguments["num_highlights"])


def _has_sections(answer: str, arguments: Arguments) -> bool:
    splitter = re.escape(arguments["section_spliter"].strip())
    return len(re.findall(rf"\s?{splitter}\s?\d+\s?", answer)) >= int(arguments["num_sections"])


def _is_json(answer: str, _: Arguments) -> bool:
    text = re.sub(r"^```(?:json)?|```$", "", answer.strip(), flags=re.IGNORECASE)
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _has_title(answer: str, _: Arguments) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", answer))


def _is_two_answers(answer: str, _: Arguments) -> bool:
    parts = [part.strip() for part in answer.split("******")]
    spoken = [part for part in parts if part]
    return all(parts[1:-1]) and len(spoken) == 2 and spoken[0] != spoken[1]


def _repeats(answer: str, arguments: Arguments) -> bool:
    return answer.strip().lower().startswith(arguments["prompt_to_repeat"].strip().lower())


def _ends(answer: str, arguments: Arguments) -> bool:
    return answer.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _is_quoted(answer: str, _: Arguments) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _has_capital_words(answer: str, arguments: Arguments) -> bool:
    number = sum(word.isupper() for word in _WHOLE_WORD.findall(answer))
    return _compare(number, arguments["capital_relation"], arguments["capital_frequency"])


def _is_upper(answer: str, _: Arguments) -> bool:
    return answer.isupper() and _identify(answer) in {None, "en"}


def _is_lower(answer: str, _: Arguments) -> bool:
    return answer.islower() and _identify(answer) in {None, "en"}


def _lacks_commas(answer: str, _: Arguments) -> bool:
    return "," not in answer


def _identify(text: str) -> str | None:
    """The language's code; None where the text tells nothing."""
    try:
        import py3langid
    except ImportError as error:
        raise ConfigurationError(
            "Constraints on the language of answers need py3langid: pip install 'icalign[eval]'."
        ) from error
    language, score = py3langid.classify(text.lower())
    return None if score < _UNDECIDED else str(language)


_CHECKS: Mapping[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": _has_keywords,
    "keywords:frequency": _has_keyword_often,
    "keywords:forbidden_words": _lacks_words,
    "keywords:letter_frequency": _has_letter_often,
    "language:response_language": _is_in_language,
    "length_constraints:number_sentences": _has_sentences,
    "length_constraints:number_paragraphs": _has_paragraphs,
    "length_constraints:number_words": _has_words,
    "length_constraints:nth_paragraph_first_word": _begins_paragraph,
    "detectable_content:number_placeholders": _has_placeholders,
    "detectable_content:postscript": _has_postscript,
    "detectable_format:number_bullet_lists": _has_bullets,
    "detectable_format:constrained_response": _is_an_option,
    "detectable_format:number_highlighted_sections": _has_highlights,
    "detectable_format:multiple_sections": _has_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": _is_two_answers,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends,
    "startend:quotation": _is_quoted,
    "change_case:capital_word_frequency": _has_capital_words,
    "change_case:english_capital": _is_upper,
    "change_case:english_lowercase": _is_lower,
    "punctuation:no_comma": _lacks_commas,
}
_IN_A_LANGUAGE = {"language:response_language", "change_case:english_capital", "change_case:english_lowercase"}
