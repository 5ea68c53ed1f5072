"""Keeps untrusted text text: it cannot become a control token or close a fence, whatever it says.

A zero-width space goes inside what would otherwise be structure, so that people read the same text and the tokenizer
reads ordinary characters.
"""

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

FENCE = "~~~~"
"""Opens and closes every block of a rendered text. Tildes, since answers hold backticks."""

_BREAK = "\u200b"
_FENCE_RUN = re.compile(r"~{4,}")
# Control tokens have the form <...> or [...]; anything of another form is looked for as it is.
_CANDIDATES = (re.compile(r"<[^<>]{1,64}>"), re.compile(r"\[[^\[\]]{1,64}\]"))
# Marks of the common chat formats. Broken for every model, since an upstream's tokenizer is not always known.
_KNOWN_MARKS = re.compile(
    "<[|\uff5c][^<>\\s]*>|<[^<>\\s\u200b]*[|\uff5c]>|</?(?:start_of_turn|end_of_turn|start_of_image|end_of_image|bos|eos|mask|SYS)>"
    r"|</?tool_(?:call|calls|response|responses)>|<(?:extra_id_|unused)\d+>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|THINK|IMG|gMASK)\]"
)
_UNKNOWN_TOKENIZER_MARKS = frozenset({"<s>", "</s>", "<pad>", "<unk>"})
# What refers to a file is not text of the prompt, and a changed address would not be found.
_PAYLOADS = frozenset({"image_url", "input_audio", "audio_url", "video_url", "file", "source"})
# Where messages and parts hold parts.
_CONTENTS = frozenset({"content", "output"})


class Sanitiser:
    """Neutralises text for one model, whose control tokens are given; an empty set means they are not known."""

    def __init__(self, control_tokens: Iterable[str] = ()) -> None:
        self._tokens = frozenset(control_tokens) or _UNKNOWN_TOKENIZER_MARKS
        odd = sorted((token for token in self._tokens if not _is_candidate(token)), key=len, reverse=True)
        self._odd = re.compile("|".join(re.escape(token) for token in odd)) if odd else None

    def text(self, text: str) -> str:
        """`text` with every control token broken. Doing it twice changes nothing more."""
        for candidate in _CANDIDATES:
            text = candidate.sub(self._break_candidate, text)
        if self._odd is not None:
            text = self._odd.sub(lambda match: _split(match[0]), text)
        return text

    def fenced(self, text: str) -> str:
        """The same for text that goes between fences, with every fence in it broken too."""
        return _FENCE_RUN.sub(lambda match: re.sub("~~~(?=~)", "~~~" + _BREAK, match[0]), self.text(text))

    def value(self, value: Any) -> Any:
        """`text` for every string inside a JSON value, keys included, as a chat template may write it.

        Neighbouring text parts of a message are joined by line breaks first, since some templates write them without a
        break, so that a mark could be split over two. Arguments of tool calls are JSON in a string; engines decode it.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in _join_text_parts(value)]
        if isinstance(value, dict):
            return {self.text(key): self._field(key, item) for key, item in value.items()}
        return value

    def conversation(self, value: Any) -> Any:
        """`value` for messages, whose parts may refer to files. Elsewhere a key such as `source` refers to nothing."""
        if isinstance(value, list):
            return [self.conversation(item) for item in _join_text_parts(value)]
        if isinstance(value, dict):
            return {self.text(key): self._message_field(key, item) for key, item in value.items()}
        return self.value(value)

    def _message_field(self, key: str, item: Any) -> Any:
        if key in _PAYLOADS and not _holds_text(item):
            return item
        return self.conversation(item) if key in _CONTENTS else self._field(key, item)

    def _field(self, key: str, item: Any) -> Any:
        return self._arguments(item) if key == "arguments" and isinstance(item, str) else self.value(item)

    def _arguments(self, text: str) -> str:
        try:
            decoded = json.loads(text)  # as engines do, who take NaN and the like
        except ValueError:
            return self.text(text)
        clean = self.value(decoded)
        # A template may write the text instead, in which a key can stand twice.
        return self.text(text) if clean == decoded else json.dumps(clean)

    def _break_candidate(self, match: re.Match[str]) -> str:
        mark = match[0]
        return _split(mark) if mark in self._tokens or _KNOWN_MARKS.fullmatch(mark) else mark


def _join_text_parts(items: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for kind, group in groupby(items, _text_kind):
        run = list(group)
        is_longer = kind is not None and len(run) > 1
        joined += [{**run[0], "text": "\n".join(item["text"] for item in run)}] if is_longer else run
    return joined


def _text_kind(item: Any) -> str | None:
    """The type of a part that holds text and nothing else."""
    is_text = isinstance(item, dict) and item.keys() == {"type", "text"} and isinstance(item["text"], str)
    return str(item["type"]) if is_text else None


def _holds_text(item: Any) -> bool:
    """Whether a part's payload is a document's text, as Anthropic's API has it, instead of a file or its address."""
    return isinstance(item, dict) and item.get("type") in ("text", "content")


def _is_candidate(token: str) -> bool:
    return any(candidate.fullmatch(token) for candidate in _CANDIDATES)


def _split(mark: str) -> str:
    return mark[0] + _BREAK + mark[1:]
