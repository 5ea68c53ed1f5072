"""Data sets by name: public ones from a folder of JSON lines, and small ones of our own that are in the package.

What a row means is decided here, once: whoever measures sees prompts with a label, answers with a label, or jailbreak
templates, whatever file they come from. The folder's files are never copied or changed.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from server.core.errors import ConfigurationError

FIXTURES = Path(__file__).parent / "fixtures"
SLOT = "[INSERT PROMPT HERE]"
"""Where a jailbreak template takes the prompt."""


class Label(StrEnum):
    """What a prompt asks for: what must be refused, or what must be answered."""

    HARMFUL = "harmful"
    HARMLESS = "harmless"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A conversation to be answered. `messages` end with the user's; `label` is None where the set does not say.

    `references` are good answers and `rejected` bad ones, where the set has them. `follow_ups` are further user turns,
    each to be sent once the last is answered. `checks` are IFEval's constraints by id, with their parameters.
    """

    id: str
    messages: tuple[Message, ...]
    label: Label | None
    kind: str = ""
    references: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    follow_ups: tuple[str, ...] = ()
    checks: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def text(self) -> str:
        """What the user says last."""
        return self.messages[-1].content


@dataclass(frozen=True)
class LabelledAnswer:
    """A model's answer that people have labelled: for validating judges.

    `prompt` is None where the set does not tell it. `group` is shared by answers to the same prompt. `verdict` is of
    Verdict for refusal, and `harmful` or `harmless` for harm. `kind` says what sort of case it is.
    """

    id: str
    prompt: str | None
    group: str
    answer: str
    verdict: str
    kind: str = ""


@dataclass(frozen=True)
class Attack:
    """A jailbreak: a template with a slot for the prompt."""

    id: str
    template: str
    kind: str = ""

    def wrap(self, prompt: str) -> str:
        """The attack with `prompt` in it."""
        return self.template.replace(SLOT, prompt)


class Row(Protocol):
    """What all rows have."""

    @property
    def id(self) -> str:
        """Unique within its set, and the same at every load."""
        ...


T = TypeVar("T", bound=Row)
Fields: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class _Source:
    """Where a set's rows are, which of them count, and how one is read; `read` gets the fields and a default id."""

    file: str
    read: Callable[[Fields, str], Row]
    keep: Callable[[Fields], bool] = field(default=lambda _: True)
    folder: Path | None = None


def names(kind: type[Row]) -> list[str]:
    """The sets whose rows are of `kind`."""
    return sorted(_SOURCES[kind])


def load_prompts(name: str, folder: Path | None) -> tuple[Prompt, ...]:
    """The prompts of set `name`. Raises ConfigurationError."""
    return _load(Prompt, name, folder)


def load_answers(name: str, folder: Path | None) -> tuple[LabelledAnswer, ...]:
    """The labelled answers of set `name`. Raises ConfigurationError."""
    return _load(LabelledAnswer, name, folder)


def load_attacks(name: str, folder: Path | None) -> tuple[Attack, ...]:
    """The jailbreak templates of set `name`. Raises ConfigurationError."""
    return _load(Attack, name, folder)


def sample(rows: Sequence[T], count: int | None, *, seed: int) -> tuple[T, ...]:
    """At most `count` rows, by chance and in the set's order; None takes all.

    A row's lot is a hash of the seed and its id, so a larger sample contains the smaller one, and rows that are added
    to a set move no others.
    """
    if count is None or count >= len(rows):
        return tuple(rows)
    lots = {row.id: hashlib.sha256(f"{seed}:{row.id}".encode()).digest() for row in rows}
    chosen = set(sorted(lots, key=lots.__getitem__)[:count])
    return tuple(row for row in rows if row.id in chosen)


def _load(kind: type[T], name: str, folder: Path | None) -> tuple[T, ...]:
    source = _SOURCES[kind].get(name)
    if source is None:
        raise ConfigurationError(f"data: there is no set {name!r} of this kind; there are {', '.join(names(kind))}.")
    path = _find(name, source, folder)
    rows = tuple(_read(path, source))
    repeated = [row_id for row_id, number in Counter(row.id for row in rows).items() if number > 1]
    if repeated or not rows:
        fault = f"ids appear twice: {', '.join(repeated)}" if repeated else f"there is no row of {name!r} in it"
        raise ConfigurationError(f"data: {path}: {fault}.")
    return rows  # type: ignore[return-value]  # _SOURCES pairs each kind with readers of that kind


def _find(name: str, source: _Source, folder: Path | None) -> Path:
    folder = source.folder or folder
    if folder is None:
        raise ConfigurationError(
            f"data: the set {name!r} is not in the package; give the folder that has {source.file} with --data DIR or "
            "ICALIGN_DATA, or use the sets that begin with fixture_."
        )
    if not folder.is_dir():
        raise ConfigurationError(f"data: there is no folder {folder}; give one that has {source.file}.")
    path = folder / source.file
    if not path.is_file():
        there = ", ".join(sorted(item.name for item in folder.glob("*.jsonl"))) or "no JSON lines at all"
        raise ConfigurationError(f"data: the set {name!r} needs {path}, which is missing; the folder has {there}.")
    return path


def _read(path: Path, source: _Source) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
                if source.keep(fields):
                    yield source.read(fields, str(number))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                fault = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
                raise ConfigurationError(f"data: {path}:{number} cannot be read as a row: {fault}.") from error


def _user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def _harmful(fields: Fields, number: str) -> Prompt:
    kind = fields.get("category") or fields.get("type") or ""
    return Prompt(str(fields.get("id", number)), _user(fields["prompt"]), Label.HARMFUL, kind)


def _harmless(fields: Fields, number: str) -> Prompt:
    kind = fields.get("type") or fields.get("dataset") or ""
    return Prompt(str(fields.get("id", number)), _user(fields["prompt"]), Label.HARMLESS, kind)


def _advbench(fields: Fields, number: str) -> Prompt:
    return Prompt(number, _user(fields["prompt"]), Label.HARMFUL, rejected=(fields["target"],))


def _mt_bench(fields: Fields, _: str) -> Prompt:
    first, *rest = fields["turns"]
    references = tuple(fields.get("reference") or ())
    return Prompt(
        str(fields["question_id"]), _user(first), Label.HARMLESS, fields["category"], references, follow_ups=tuple(rest)
    )


def _truthfulqa(fields: Fields, number: str) -> Prompt:
    """The best answer is the first of the references."""
    correct = [fields["Best Answer"].strip(), *_split(fields["Correct Answers"])]
    return Prompt(
        number,
        _user(fields["Question"]),
        Label.HARMLESS,
        fields["Category"],
        tuple(dict.fromkeys(correct)),
        tuple(_split(fields["Incorrect Answers"])),
    )


def _split(answers: str) -> list[str]:
    return [answer.strip() for answer in answers.split(";") if answer.strip()]


def _gsm8k(fields: Fields, number: str) -> Prompt:
    """The reference is the final number alone, without separators."""
    final = fields["answer"].rsplit("####", 1)[1].strip().replace(",", "")
    return Prompt(number, _user(fields["question"]), Label.HARMLESS, "maths", (final,))


def _ifeval(fields: Fields, _: str) -> Prompt:
    checks = tuple(zip(fields["instruction_id_list"], fields["kwargs"], strict=True))
    return Prompt(str(fields["key"]), _user(fields["prompt"]), Label.HARMLESS, "instructions", checks=checks)


def _moderation(fields: Fields, number: str) -> Prompt:
    """Harmful if any category is flagged, whose letters are then its kind; a category may be unrated."""
    flagged = [name for name in _CATEGORIES if fields.get(name) == 1]
    label = Label.HARMFUL if flagged else Label.HARMLESS
    return Prompt(number, _user(fields["prompt"]), label, " ".join(flagged))


_CATEGORIES = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")


def _hh(fields: Fields, number: str) -> Prompt:
    """The dialogue up to where the transcripts part, the chosen answer and the rejected one."""
    chosen, rejected = _transcript(fields["chosen"]), _transcript(fields["rejected"])
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == 0 or chosen[shared].role != "assistant" or rejected[shared].role != "assistant":
        raise ValueError("the transcripts do not part at an answer")
    return Prompt(
        number,
        chosen[:shared],
        None,
        "preference",
        (chosen[shared].content,),
        (rejected[shared].content,),
    )


def _transcript(text: str) -> tuple[Message, ...]:
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[role], said.strip()) for role, said in zip(parts[1::2], parts[2::2], strict=True))


def _xstest_answer(fields: Fields, _: str) -> LabelledAnswer:
    verdict = _XSTEST_VERDICTS[fields["final_label"]]
    return LabelledAnswer(
        fields["id"], fields["prompt"], fields["id"], fields["completion"].strip(), verdict, fields["type"]
    )


_XSTEST_VERDICTS = {
    "1_full_compliance": "compliance",
    "2_full_refusal": "refusal",
    "3_partial_refusal": "partial",
}


def _gptfuzz(fields: Fields, number: str) -> LabelledAnswer:
    label = {"0": Label.HARMLESS, "1": Label.HARMFUL}[str(fields["label"])]
    return LabelledAnswer(number, None, str(fields["prompt"]), fields["completion"], label)


def _attack(fields: Fields, number: str) -> Attack:
    if SLOT not in fields["template"]:
        raise ValueError(f"the template has no slot {SLOT}")
    return Attack(str(fields.get("id", number)), fields["template"], fields.get("kind", ""))


def _own_prompt(fields: Fields, _: str) -> Prompt:
    messages = tuple(Message(**message) for message in fields.get("messages", ())) or _user(fields["prompt"])
    return Prompt(
        fields["id"],
        messages,
        Label(fields["label"]) if fields["label"] else None,
        fields["kind"],
        tuple(fields.get("references", ())),
        tuple(fields.get("rejected", ())),
        tuple(fields.get("follow_ups", ())),
        tuple((name, values) for name, values in fields.get("checks", ())),
    )


def _own_answer(fields: Fields, _: str) -> LabelledAnswer:
    return LabelledAnswer(
        fields["id"], fields["prompt"], fields["id"], fields["answer"], fields["verdict"], fields["kind"]
    )


def _own(file: str, read: Callable[[Fields, str], Row]) -> _Source:
    return _Source(file, read, folder=FIXTURES)


_SOURCES: Mapping[type[Row], Mapping[str, _Source]] = {
    Prompt: {
        "harmbench": _Source("harmbench.jsonl", _harmful, lambda row: row["kind"] == "standard"),
        "strongreject": _Source("strongreject.jsonl", _harmful),
        "advbench": _Source("advbench.jsonl", _advbench),
        "xstest_unsafe": _Source("xstest.jsonl", _harmful, lambda row: row["label"] == "unsafe"),
        "xstest_safe": _Source("xstest.jsonl", _harmless, lambda row: row["label"] == "safe"),
        "just_eval": _Source("just_eval.jsonl", _harmless, lambda row: row["category"] == "regular"),
        "just_eval_safety": _Source("just_eval.jsonl", _harmful, lambda row: row["category"] == "safety"),
        "mt_bench": _Source("mt_bench.jsonl", _mt_bench),
        "hh_harmless": _Source("hh_harmless.jsonl", _hh),
        "truthfulqa": _Source("truthfulqa.jsonl", _truthfulqa),
        "gsm8k": _Source("gsm8k.jsonl", _gsm8k),
        "ifeval": _Source("ifeval.jsonl", _ifeval),
        "moderation": _Source("moderation.jsonl", _moderation),
        "fixture_harmful": _own("harmful.jsonl", _own_prompt),
        "fixture_harmless": _own("harmless.jsonl", _own_prompt),
        "fixture_tax": _own("tax.jsonl", _own_prompt),
        "fixture_preference": _own("preference.jsonl", _own_prompt),
    },
    LabelledAnswer: {
        "xstest_completions_gpt4": _Source("xstest_completions_gpt4.jsonl", _xstest_answer),
        "xstest_completions_llama2orig": _Source("xstest_completions_llama2orig.jsonl", _xstest_answer),
        "xstest_completions_mistralguard": _Source("xstest_completions_mistralguard.jsonl", _xstest_answer),
        "gptfuzz_labelled": _Source("gptfuzz_labelled.jsonl", _gptfuzz),
        "fixture_refusals": _own("refusals.jsonl", _own_answer),
        "fixture_harm": _own("harm.jsonl", _own_answer),
    },
    Attack: {
        "jailbreak_templates": _Source("jailbreak_templates.jsonl", _attack),
        "fixture_attacks": _own("attacks.jsonl", _attack),
    },
}
