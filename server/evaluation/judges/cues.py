"""What the sentences of an answer do: decline, object, agree, define and so on, by the cues in cues.yaml.

Sorting alone; what follows from it is the judges' business.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

NEUTRAL = "neutral"
"""The kind of a sentence in which no cue is found."""

_FILE = Path(__file__).with_name("cues.yaml")
_APOSTROPHES = str.maketrans("’‘´", "'''")  # noqa: RUF001 - they are what is replaced
_CODE = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_QUOTED = re.compile(
    r'"[^"\n]{0,600}"|“[^”]{0,600}”|«[^»]{0,600}»|„[^“”]{0,600}[“”]|「[^」]{0,600}」|^\s*>.*$', re.MULTILINE
)
_SENTENCE_END = re.compile(r"(?<=[.!?؟;])\s+|[。！？]|\n+")  # noqa: RUF001 - Chinese and Arabic have marks of their own
_IDEOGRAPH = re.compile(r"[\u4e00-\u9fff]")
_MIN_UNQUOTED_SHARE = 1 / 3


@dataclass(frozen=True)
class Sentence:
    """A sentence, its kind, and its length in words; two Chinese characters count as one."""

    text: str
    kind: str
    num_words: int


def read_sentences(answer: str) -> Sequence[Sentence]:
    """The sentences of `answer` that the speaker says: not code, nor what is quoted or announced with a colon.

    An answer that is for the most part a quotation is taken at its word.
    """
    sentences: list[Sentence] = []
    announced = False
    for piece in _SENTENCE_END.split(_own_words(_normalise(answer))):
        text = " ".join(piece.split()).strip("*_# ")
        if not re.search(r"\w", text):
            continue
        kind = NEUTRAL if announced else _sort(text)
        announced = announced or (kind == "agree" and text.endswith(":"))
        sentences.append(Sentence(text, kind, _count_words(text)))
    return sentences


def _normalise(answer: str) -> str:
    return unicodedata.normalize("NFC", answer).translate(_APOSTROPHES)


def _own_words(text: str) -> str:
    spoken = _CODE.sub("\n", text)
    unquoted = _QUOTED.sub("_", spoken)
    is_own = _count_words(unquoted) >= _MIN_UNQUOTED_SHARE * _count_words(spoken)
    return unquoted if is_own else spoken


def _count_words(text: str) -> int:
    ideographs = len(_IDEOGRAPH.findall(text))
    return len(re.findall(r"[^\W_]+", _IDEOGRAPH.sub(" ", text))) + (ideographs + 1) // 2


def _sort(text: str) -> str:
    return next((kind for kind, cue in _load_cues().items() if cue.search(text)), NEUTRAL)


@lru_cache(maxsize=1)
def _load_cues() -> Mapping[str, re.Pattern[str]]:
    """One expression for each kind, in the file's order, all languages together."""
    content = yaml.safe_load(_FILE.read_text("utf-8"))
    parts = {name: part.replace("\n", "") for name, part in content["parts"].items()}
    return {
        kind: re.compile("|".join(_fill(cue, parts) for cues in languages.values() for cue in cues), re.IGNORECASE)
        for kind, languages in content["kinds"].items()
    }


def _fill(cue: str, parts: Mapping[str, str]) -> str:
    while (filled := re.sub(r"<(\w+)>", lambda name: parts[name[1]], cue)) != cue:
        cue = filled
    return cue
