"""Counts tokens with the served model's own tokenizer, and knows its control tokens."""

import hashlib
import math
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer as FastTokenizer

from server.core.errors import ConfigurationError

_BYTES_PER_TOKEN = 3.5


class Tokenizer(Protocol):
    """What rendering needs of a tokenizer."""

    @property
    def name(self) -> str:
        """How counts were made, as traces show it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another one wherever counts differ."""
        ...

    @property
    def control_tokens(self) -> frozenset[str]:
        """Text that the model reads as structure instead of as text."""
        ...

    def count(self, text: str) -> int:
        """Tokens in `text`, with nothing added around it."""
        ...


class ModelTokenizer:
    """A model's tokenizer.json."""

    def __init__(self, tokenizer: FastTokenizer, name: str) -> None:
        self._tokenizer = tokenizer
        self.name = name
        added = tokenizer.get_added_tokens_decoder().values()
        self.control_tokens = frozenset(token.content for token in added if token.special or _is_mark(token.content))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that the tokenizer is."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def count(self, text: str) -> int:
        """Exact, apart from merges across the ends of the text."""
        return len(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """Token ids, with nothing added around them."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class EstimatingTokenizer:
    """For an upstream whose tokenizer is not at hand: counts a token for every 3.5 bytes of UTF-8, rounded up."""

    name = "estimate"
    fingerprint = f"{_BYTES_PER_TOKEN} bytes"
    control_tokens: frozenset[str] = frozenset()

    def count(self, text: str) -> int:
        """An estimate that errs high for English prose, so that budgets hold."""
        return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def load_tokenizer(model: str, name: str, *, fetch: Callable[[str], str] | None = None) -> ModelTokenizer:
    """The tokenizer of `model`: a folder with tokenizer.json, that file itself, or a Hugging Face name.

    `name` is what traces call it. `fetch` gives the local path of a named model's tokenizer.json; by default the
    Hugging Face cache or hub does. Raises ConfigurationError.
    """
    path = Path(model)
    if path.is_dir():
        path /= "tokenizer.json"
    try:
        file = path if path.is_file() else Path((fetch or _fetch)(model))
        return ModelTokenizer(FastTokenizer.from_file(str(file)), name)
    except Exception as error:  # tokenizers and the hub client raise bare and many kinds of exceptions
        raise ConfigurationError(f"tokenizer: cannot load one for {name!r}: {error}") from error


def _is_mark(token: str) -> bool:
    """Whether an added token that is not declared special is structure all the same, such as `<tool_call>`.

    Others are plain words of the vocabulary: white space, HTML elements. Marks of thinking are left to templates, which
    look for them in past answers.
    """
    return re.fullmatch(r"<[^<>\s]*[|_][^<>\s]*>|\[[A-Z_/]+\]", token) is not None


def _fetch(model: str) -> str:
    from huggingface_hub import hf_hub_download

    return str(hf_hub_download(model, "tokenizer.json"))
