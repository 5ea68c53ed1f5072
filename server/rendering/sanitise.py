"""Keeps untrusted text text: it cannot become a control token or close a fence, whatever it says.

A zero-width space goes inside what would otherwise be structure, so that people read the same text and the tokenizer
reads ordinary characters.
"""

import re
from collections.abc import Iterable
from typing import Any

FENCE = "~~~~"
"""Opens and closes every block of a rendered text. Tildes, since answers hold backticks."""

_BREAK = "\u200b"
_FENCE_RUN = re.compile(r"~{4,}")
# Control tokens have the form <...> or [...]; anything of another form is looked for as it is.
_CANDIDATES = (re.compile(r"<[^<>]{1,64}>"), re.compile(r"\[[^\[\]]{1,64}\]"))
# Turn marks of the common chat formats. Engaged for every model, since an upstream's tokenizer is not always known.
_KNOWN_MARKS = re.compile(
    "<[|\uff5c][^<>]*[|\uff5c]>|</?(?:start_of_turn|end_of_turn|bos|eos|SYS)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
)
_UNKNOWN_TOKENIZER_MARKS = frozenset({"<s>", "</s>", "<pad>", "<unk>"})


class Sanitiser:
    """Neutralises text for one model, whose control tokens are given; an empty set means they are not known."""

    def __init__(self, control_tokens: Iterable[str] = ()) -> None:
        self._tokens = frozenset(control_tokens) or _UNKNOWN_TOKENIZER_MARKS
        odd = sorted((token for token in self._tokens if not _is_candidate(token)), key=len, reverse=True)
        self._odd = re.compile("|".join(re.escape(token) for token in odd)) if odd else None

    def text(self, text: str) -> str:
        """`text` with every control token and fence broken. Doing it twice changes nothing more."""
        for candidate in _CANDIDATES:
            text = candidate.sub(self._break_candidate, text)
        if self._odd is not None:
            text = self._odd.sub(lambda match: _split(match[0]), text)
        return _FENCE_RUN.sub(lambda match: re.sub("~~~(?=~)", "~~~" + _BREAK, match[0]), text)

    def value(self, value: Any) -> Any:
        """The same for every string inside a JSON value, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        return value

    def _break_candidate(self, match: re.Match[str]) -> str:
        mark = match[0]
        return _split(mark) if mark in self._tokens or _KNOWN_MARKS.fullmatch(mark) else mark


def _is_candidate(token: str) -> bool:
    return any(candidate.fullmatch(token) for candidate in _CANDIDATES)


def _split(mark: str) -> str:
    return mark[0] + _BREAK + mark[1:]
