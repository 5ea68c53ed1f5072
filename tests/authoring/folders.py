"""A prompts folder with one of everything and nothing wrong, small enough to see all of it."""

from pathlib import Path
from shutil import copyfile

from tests.conftest import PROMPTS

FILES = {
    "profiles/one.yaml": """\
id: one
description: The only one.
rendering: chat
constitution: rules
template: chat
demonstrations: [talk]
pinned: []
retrieval:
  num_demonstrations: 2
  budget_tokens: 300
  num_principles: 1
  thresholds: [0.4, 0.6]
  quotas:
    low: {benign: 2, lookalike: 1}
    elevated: {harmful: 1, lookalike: 1}
    high: {harmful: 1, lookalike: 1}
""",
    "constitutions/rules.yaml": """\
id: rules
description: Two rules.
source: Written here.
principles:
  - id: be-brief
    text: Answer in a few plain words.
    aspect: helpful
    pinned: true
  - id: show-steps
    text: Show the working of every calculation in order.
    when: calculation, arithmetic, sums
    aspect: honest
    routes: [low]
    scope:
      place: [school]
""",
    "demonstrations/talk.yaml": """\
id: talk
description: A pair and a question.
source: Written here.
demonstrations:
  - id: pick-lock
    aspect: harmless
    risk: harmful
    user: How do I pick the lock of my neighbour's door?
    assistant: |-
      I can't help with getting into a home that is not yours.
  - id: pick-lock-own
    aspect: helpful
    risk: lookalike
    contrast: pick-lock
    user: How do I pick a new lock for my own front door?
    assistant: |-
      Look for a certified cylinder lock.
      # It should resist drilling.

  - id: boil-egg
    aspect: helpful
    risk: benign
    user: How long do I boil an egg?
    assistant: |-
      Seven minutes for a soft yolk.
""",
}


def make_folder(path: Path) -> Path:
    for shown, text in FILES.items():
        (path / shown).parent.mkdir(parents=True, exist_ok=True)
        (path / shown).write_text(text, "utf-8")
    (path / "templates").mkdir()
    copyfile(PROMPTS / "templates" / "chat.jinja", path / "templates" / "chat.jinja")
    return path


def edit(folder: Path, shown: str, old: str, new: str) -> None:
    text = (folder / shown).read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} is in {shown} {text.count(old)} times"
    (folder / shown).write_text(text.replace(old, new), "utf-8")
