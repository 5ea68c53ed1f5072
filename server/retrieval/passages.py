"""The parts of a long message that are judged by themselves: what wraps a request must not hide it."""

import re

# A message that is longer than this is seldom one question. Of harmful prompts inside public jailbreak templates 46 %
# looked harmful as a whole, and 88 % by this; of public harmless prompts, GSM8K's sums alone (0 to 2 %) did more often.
_LONG_WORDS = 80
_NUM_AT_EACH_END = 2
# Shorter ones say too little by themselves, such as "Go on." or "Question:".
_SHORTEST_WORDS = 4
_SENTENCE_ENDS = re.compile(r"(?<=[.!?:\]\"])\s+|\n+")


def passages(text: str) -> list[str]:
    """The first and the last two sentences of `text` where it is long, in order and each once; else none.

    A request in a long text stands before or after what is said about it. Text without spaces between words is not
    long. Each is one more chance to look harmful: the share of harmless messages that the risk speaks of is of whole
    ones.
    """
    if len(text.split()) <= _LONG_WORDS:
        return []
    sentences = [part for part in map(str.strip, _SENTENCE_ENDS.split(text)) if len(part.split()) >= _SHORTEST_WORDS]
    ends = [*sentences[:_NUM_AT_EACH_END], *sentences[-_NUM_AT_EACH_END:]]
    return list(dict.fromkeys(ends))
