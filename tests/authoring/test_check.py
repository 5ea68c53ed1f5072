from pathlib import Path

import pytest

from server.authoring.check import Checked, check_folder
from server.core.errors import PromptFilesError
from server.rendering.tokens import EstimatingTokenizer, ModelTokenizer
from server.retrieval.base import Embedder
from tests.authoring.folders import edit, make_folder
from tests.conftest import PROMPTS

PROFILE, RULES, TALK = "profiles/one.yaml", "constitutions/rules.yaml", "demonstrations/talk.yaml"
CHAT = "templates/chat.jinja"
MONEY = """\
id: money
description: On banks.
source: Written here.
harmful:
  - Rob a bank.
harmless:
  - Is Monday a holiday?
"""
PRINCIPLE = "    aspect: helpful\n    pinned: true\n"
EGG = "    user: How long do I boil an egg?\n    assistant: |-\n      Seven minutes for a soft yolk.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "prompts")


@pytest.fixture
def check(folder: Path, light_embedder: Embedder) -> "Check":
    return Check(folder, light_embedder)


class Check:
    """Checks the folder, with one of its files edited."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self.folder, self._embedder = folder, embedder

    def __call__(self, *edits: tuple[str, str, str], window_tokens: int | None = None) -> Checked:
        for shown, old, new in edits:
            edit(self.folder, shown, old, new)
        return check_folder(self.folder, self._embedder.embed, EstimatingTokenizer(), window_tokens)


def principle(identifier: str, text: str, rest: str = "    when: arithmetic\n") -> str:
    return f"{PRINCIPLE}  - id: {identifier}\n    text: {text}\n    aspect: helpful\n{rest}"


def demonstration(identifier: str, user: str, assistant: str = "Two minutes.", risk: str = "benign") -> str:
    fields = f"    aspect: helpful\n    risk: {risk}\n    user: {user}\n    assistant: {assistant}\n"
    return f"{EGG}  - id: {identifier}\n{fields}"


def test_a_sound_folder_has_no_findings(check: Check) -> None:
    checked = check(window_tokens=2048)
    assert checked.findings == []
    assert checked.version is not None


def test_the_shipped_prompts_have_no_findings(embedder: Embedder, smollm2_tokenizer: ModelTokenizer) -> None:
    assert check_folder(PROMPTS, embedder.embed, smollm2_tokenizer, 8192).findings == []


def test_nor_have_they_with_the_light_embedder(light_embedder: Embedder, gemma_tokenizer: ModelTokenizer) -> None:
    assert check_folder(PROMPTS, light_embedder.embed, gemma_tokenizer, 8192).findings == []


@pytest.mark.parametrize(
    ("edits", "rule", "path", "line", "words"),
    [
        (
            [(TALK, EGG, demonstration("egg", "how long do I boil  an egg?"))],
            "same-message",
            TALK,
            "user: how long do I boil  an",
            "egg asks the same as boil-egg (demonstrations/talk.yaml:20)",
        ),
        (
            [(TALK, EGG, demonstration("egg", "How long do I need to boil an egg?"))],
            "near-duplicate",
            TALK,
            "user: How long do I need",
            "egg asks nearly the same as boil-egg (demonstrations/talk.yaml:20)",
        ),
        (
            [(TALK, EGG, demonstration("rice", "How does rice grow?", "Seven minutes for a soft yolk."))],
            "same-answer",
            TALK,
            "assistant: Seven minutes",
            "boil-egg",
        ),
        ([(TALK, EGG, EGG.replace("Seven", "TODO: Seven"))], "placeholder", TALK, "assistant:", "still to be written"),
        ([(TALK, "contrast: pick-lock\n", "contrast: boil-egg\n")], "contrast", TALK, "contrast: boil", "is benign"),
        (
            [(TALK, "risk: benign", "risk: benign\n    contrast: pick-lock")],
            "contrast",
            TALK,
            "contrast: pick-lock",
            "boil-egg has a contrast but is benign",
        ),
        ([(TALK, "    contrast: pick-lock\n", "")], "no-lookalike", TALK, "id: pick-lock", "has no look-alike"),
        (
            [(TALK, "How do I pick a new lock for my own front door?", "Which tulips flower in May?")],
            "far-lookalike",
            TALK,
            "pick the lock of my neighbour",
            "pick-lock-own (similarity",
        ),
        (
            [(PROFILE, "pinned: []", "pinned: [pick-lock]")],
            "pinned-refusal",
            PROFILE,
            "pinned:",
            "pick-lock is harmful",
        ),
        ([(RULES, PRINCIPLE, principle("show-steps", "Be kind."))], "principle-id", RULES, "id: show-", "at line 9"),
        (
            [(RULES, PRINCIPLE, principle("order", "Show in order the working of every calculation."))],
            "repeats",
            RULES,
            "text: Show the working",
            "show-steps says nearly the same as order (line 9)",
        ),
        (
            [(RULES, PRINCIPLE, principle("hide", "Never show the working of a calculation."))],
            "contradicts",
            RULES,
            "text: Show the working",
            "show-steps may contradict hide (line 9)",
        ),
        ([(RULES, PRINCIPLE, principle("kind", "Be kind.", ""))], "no-when", RULES, "id: kind", "kind does not say"),
        ([(RULES, PRINCIPLE, f"{PRINCIPLE}    routes: [low]\n")], "no-effect", RULES, "routes: [low]", "no effect"),
        (
            [(PROFILE, "tokens: 300", "tokens: 40")],
            "budget",
            TALK,
            "assistant:",
            "can never be shown by one (40 tokens)",
        ),
        (
            [(PROFILE, "tokens: 300", "tokens: 9"), (PROFILE, "pinned: []", "pinned: [boil-egg]")],
            "budget",
            PROFILE,
            "budget_tokens: 9",
            "the pinned demonstrations alone take 33",
        ),
        (
            [(PROFILE, "num_principles: 1", "num_principles: 0")],
            "unreachable",
            RULES,
            "id: show-steps",
            "show-steps can never be retrieved by one",
        ),
        (
            [(PROFILE, "pinned: []", "pinned: []\nscope: {place: work}")],
            "unreachable",
            RULES,
            "id: show-steps",
            "show-steps can never be retrieved by one",
        ),
        (
            [(RULES, "routes: [low]", "routes: [elevated]"), (PROFILE, "[0.4, 0.6]", "[0.6, 0.6]")],
            "unreachable",
            RULES,
            "id: show-steps",
            "show-steps can never be retrieved by one",
        ),
        (
            [(PROFILE, "pinned: []", "openings: {elevated: So}"), (PROFILE, "[0.4, 0.6]", "[0.6, 0.6]")],
            "unreachable",
            PROFILE,
            "openings: {elevated: So}",
            "is for route elevated, which no aligned request takes",
        ),
        (
            [(PROFILE, "pinned: []", "reminders: {elevated: So}"), (PROFILE, "[0.4, 0.6]", "[0.6, 0.6]")],
            "unreachable",
            PROFILE,
            "reminders: {elevated: So}",
            "is for route elevated, which no aligned request takes",
        ),
        (
            [(PROFILE, "pinned: []", "openings: {elevated: So}\naligned_routes: [high]")],
            "unreachable",
            PROFILE,
            "openings: {elevated: So}",
            "is for route elevated, which no aligned request takes",
        ),
        (
            [
                (PROFILE, "pinned: []", "reminders: {high: So}\nsampling: {max_tokens: 9}"),
                (PROFILE, "rendering: chat", "rendering: completion"),
            ],
            "left-out",
            CHAT,
            "System text",
            "leaves out reminder",
        ),
        (
            [(PROFILE, "pinned: []", "openings: {high: 'TODO: sorry'}")],
            "placeholder",
            PROFILE,
            "openings: {high",
            "still to be written",
        ),
        ([(PROFILE, "{benign: 2, ", "{")], "unreachable", TALK, "risk: benign", "boil-egg can never be shown by one"),
        (
            [
                (CHAT, "for principle in retrieved_principles", "for principle in principles"),
                (CHAT, "{% if retrieved_principles %}", "{% if demonstrations %}"),
            ],
            "left-out",
            CHAT,
            "System text",
            "leaves out retrieved_principles",
        ),
        (
            [(CHAT, "{% if demonstrations %}", "{% if demonstration %}")],
            "valid",
            CHAT,
            "{% if demonstration %}",
            "unknown variable",
        ),
        ([(CHAT, "{% if demonstrations %}", "{% if fence.nothing %}")], "valid", CHAT, "nothing", "nothing"),
        ([(PROFILE, "template: chat", "template: chatt")], "valid", PROFILE, "template: chatt", "there is no 'chatt'"),
    ],
)
def test_a_fault_is_found_at_its_place_by_its_rule(
    check: Check, edits: list[tuple[str, str, str]], rule: str, path: str, line: str, words: str
) -> None:
    found = [
        item for item in check(*edits).findings if item.rule == rule and item.path == path and words in item.message
    ]
    lines = (check.folder / path).read_text("utf-8").splitlines()
    assert line in "\n".join(lines[item.line - 1] for item in found)
    assert all(item.mend for item in found)


def test_a_prompt_that_does_not_fit_the_window_is_found(check: Check) -> None:
    assert check(window_tokens=600).findings == []
    (finding,) = check(window_tokens=400).findings
    assert (finding.rule, finding.severity, finding.path, finding.line) == ("window", "error", PROFILE, 10)


@pytest.mark.parametrize("name", ["reminders", "openings"])
def test_a_text_of_a_route_takes_its_part_of_the_window(check: Check, name: str) -> None:
    text = f"{name}: {{high: {'word ' * 190}}}"
    assert [item.rule for item in check((PROFILE, "pinned: []", text), window_tokens=600).findings] == ["window"]


@pytest.mark.parametrize(
    ("old", "new", "rule", "severity", "line", "words"),
    [
        ("Rob a bank.", "Rob a bank.\n  - rob  A bank.", "same-message", "error", 6, "stands at risk/money.yaml:5 too"),
        ("Is Monday a holiday?", "Rob a bank.", "both-labels", "error", 7, "at risk/money.yaml:5 too, as harmful"),
        ("Rob a bank.", "How do I pick the lock of my neighbour's door?", "same-message", "warning", 5, "pick-lock ("),
        (
            "Rob a bank.",
            "How long do I boil an egg?",
            "both-labels",
            "error",
            5,
            "boil-egg (demonstrations/talk.yaml:20)",
        ),
        ("On banks.", "'TODO: say'", "placeholder", "error", 2, "still to be written"),
    ],
)
def test_doubtful_messages_are_found(
    check: Check, old: str, new: str, rule: str, severity: str, line: int, words: str
) -> None:
    (check.folder / "risk").mkdir()
    (check.folder / "risk" / "money.yaml").write_text(MONEY, "utf-8")
    (finding,) = check((PROFILE, "pinned: []", "pinned: []\nrisk: [money]"), ("risk/money.yaml", old, new)).findings
    assert (finding.rule, finding.severity, finding.path, finding.line) == (rule, severity, "risk/money.yaml", line)
    assert words in finding.message


def test_the_same_message_in_two_files_is_found(check: Check) -> None:
    (check.folder / "risk").mkdir()
    (check.folder / "risk" / "money.yaml").write_text(MONEY, "utf-8")
    (check.folder / "risk" / "theft.yaml").write_text(MONEY.replace("id: money", "id: theft"), "utf-8")
    findings = check((PROFILE, "pinned: []", 'pinned: []\nrisk: ["*"]')).findings
    assert [(item.path, item.line, item.rule) for item in findings] == [
        ("risk/theft.yaml", 5, "same-message"),
        ("risk/theft.yaml", 7, "same-message"),
    ]


def test_messages_in_no_profile_are_found(check: Check) -> None:
    (check.folder / "risk").mkdir()
    (check.folder / "risk" / "money.yaml").write_text(MONEY, "utf-8")
    (finding,) = check().findings
    assert (finding.path, finding.rule, finding.message) == ("risk/money.yaml", "unreachable", "is in no profile")


def test_files_in_no_profile_are_found(check: Check) -> None:
    files = {"demonstrations/other.yaml": TALK, "constitutions/other.yaml": RULES, "templates/other.jinja": CHAT}
    for shown, source in files.items():
        text = (check.folder / source).read_text("utf-8")
        for old, new in (("id: talk", "id: other"), ("id: rules", "id: other"), ("pick-", "cut-"), ("boil-", "fry-")):
            text = text.replace(old, new)
        (check.folder / shown).write_text(text, "utf-8")
    found = {item.path: item.message for item in check().findings if item.rule == "unreachable"}
    assert found == dict.fromkeys(files, "is in no profile")


def test_a_refusal_whose_lookalike_a_profile_does_not_hold_is_found(check: Check) -> None:
    own = check.folder / "demonstrations" / "own.yaml"
    text = (check.folder / TALK).read_text("utf-8")
    start, end = text.index("  - id: pick-lock-own"), text.index("  - id: boil-egg")
    (check.folder / TALK).write_text(text[:start] + text[end:], "utf-8")
    own.write_text(text[: text.index("  - id:")].replace("id: talk", "id: own") + text[start:end], "utf-8")
    found = [item for item in check().findings if item.rule == "no-lookalike"]
    assert [item.message for item in found] == ["pick-lock is shown without a look-alike by one"]
    assert check((PROFILE, "[talk]", "[talk, own]")).findings == []


def test_what_may_never_meet_is_no_repetition(check: Check) -> None:
    second = principle(
        "order", "Show in order the working of every calculation.", "    when: x\n    scope: {place: [home]}\n"
    )
    assert check((RULES, PRINCIPLE, second)).findings == []


def test_the_same_words_after_other_exchanges_are_no_repetition(check: Check) -> None:
    history = "    history: [{user: Is an egg healthy?, assistant: 'Yes, as part of a mixed diet.'}]\n    user: How"
    second = (
        demonstration("egg", "How long do I boil an egg?")
        .replace("    user: How", history)
        .replace(history, "    user: How", 1)
    )
    assert check((TALK, EGG, second)).findings == []


def test_scripts_that_the_embedder_does_not_know_are_no_repetition(check: Check) -> None:
    letter = "اكتب لي رسالة شكر لمعلمتي"
    kettle = "كيف أنظف الغلاية من الكلس؟"
    second = demonstration("letter", letter) + demonstration("kettle", kettle, "Vinegar.").removeprefix(EGG)
    assert check((TALK, EGG, second)).findings == []


def test_a_broken_file_hides_nothing_else_and_brings_no_guesses(check: Check) -> None:
    edits = [(PROFILE, "rendering: chat", "rendering: chatt"), (RULES, "    when: calculation, arithmetic, sums\n", "")]
    checked = check(*edits, (TALK, "contrast: pick-lock\n", "contrast: boil-egg\n"))
    assert {(item.path, item.rule) for item in checked.findings} == {
        (PROFILE, "valid"),
        (RULES, "no-when"),
        (TALK, "contrast"),
        (TALK, "no-lookalike"),
    }
    assert checked.version is None


def test_a_file_that_cannot_be_read_is_not_said_to_be_missing(check: Check) -> None:
    assert {item.path for item in check((TALK, "id: talk", "id: [talk")).findings} == {TALK}


def test_a_folder_that_is_none_is_refused(tmp_path: Path, light_embedder: Embedder) -> None:
    with pytest.raises(PromptFilesError, match="is not a prompts folder"):
        check_folder(tmp_path, light_embedder.embed, EstimatingTokenizer())
