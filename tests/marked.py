"""A copy of the shipped prompts in which every edit writes one number into several places, so that a mixture shows."""

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copytree, rmtree

from server.engine.base import EngineReply, EngineRequest
from server.engine.scripted import ScriptedAnswer, ScriptedEngine
from server.profiles.store import ProfileStore

PROMPTS = Path(__file__).parent.parent / "prompts"
PLACES = ("principle", "demonstration", "template")

_MARK = re.compile(r"mark-(\d+)-(\w+)")
_DEMONSTRATIONS = """\
id: marked
description: One demonstration with the number of an edit.
source: A test.
demonstrations:
  - id: marked
    aspect: helpful
    risk: benign
    user: What is the number?
    assistant: It is mark-{number}-demonstration.
"""
# What an edit can break: the file, and what to put where.
_FAULTS = (
    ("constitutions/general.yaml", "principles:", "principles: ["),
    ("profiles/default.yaml", "template: chat", "template: none-such"),
    ("demonstrations/marked.yaml", "risk: benign", "risk: some"),
    ("templates/chat.jinja", "{% endif %}", ""),
    ("templates/chat.jinja", "{{ system }}", "{{ system * 1000000000 }}"),
    ("profiles/default.yaml", "id: default", "id: default\nextends: default"),
)


Tell = Callable[[str, int], object]


NUM_FAULTS = len(_FAULTS)


class MarkedPrompts:
    """Prompts under `root`; each edit is a new folder, which takes the place of the one before at a stroke."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "prompts"
        self._next = root / "next"
        self._versions = root / "versions"
        self._store = ProfileStore(self._next)
        first = self._sound = self._path(0)
        copytree(PROMPTS, first)
        replace_text(first / "profiles" / "default.yaml", "pinned: []", "pinned: [marked]")
        replace_text(
            first / "constitutions" / "general.yaml",
            "principles:\n",
            "principles:\n  - {id: marked, text: mark-0-principle, aspect: helpful, pinned: true}\n",
        )
        with (first / "templates" / "chat.jinja").open("a", encoding="utf-8") as file:
            file.write("mark-0-template\n")
        (first / "demonstrations" / "marked.yaml").write_text(_DEMONSTRATIONS.format(number=0), "utf-8")
        _point(self.folder, first)

    def edit(self, number: int, *, fault: int | None = None, tell: Tell = lambda _, __: None) -> str:
        """Put `number` in place of the one before, with a fault of that number if one is given.

        Gives the version that profile `default` then has, or would have without the fault; `tell` is told of it and of
        `number` before anyone can see them.
        """
        path = self._path(number)
        copytree(self._sound, path, copy_function=os.link)
        for name in ("constitutions/general.yaml", "templates/chat.jinja", "demonstrations/marked.yaml"):
            _rewrite(path / name, _MARK.sub(rf"mark-{number}-\2", (path / name).read_text("utf-8")))
        version = self._version(path)
        tell(version, number)
        if fault is not None:
            name, old, new = _FAULTS[fault % len(_FAULTS)]
            _rewrite(path / name, (path / name).read_text("utf-8").replace(old, new, 1))
        else:
            self._sound = path
        _point(self.folder, path)
        return version

    def undo(self, number: int) -> str:
        """Put the folder of an earlier edit back. Gives the version as `edit` does."""
        _point(self.folder, self._path(number))
        return self._version(self._path(number))

    def forget(self, number: int) -> None:
        """Delete the folder of an edit that is neither in force nor the last sound one."""
        rmtree(self._path(number), ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._versions / str(number)

    def _version(self, path: Path) -> str:
        """As a store of its own finds it."""
        _point(self._next, path)
        return self._store.load()["default"].version


class EchoEngine(ScriptedEngine):
    """Answers with the marks that it was sent, in their order, `delay_s` before each word of a stream."""

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__()
        self._delay_s = delay_s

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        marks = " ".join(found[0] for found in _MARK.finditer(request.content.decode()))
        answers = [ScriptedAnswer(marks, delay_s=self._delay_s)] if marks else []
        async with ScriptedEngine(answers).open(request) as reply:
            yield reply


def numbers_in(text: str) -> dict[str, set[int]]:
    """The numbers of the marks in `text`, by place."""
    found: dict[str, set[int]] = {}
    for number, place in _MARK.findall(text):
        found.setdefault(place, set()).add(int(number))
    return found


def replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1), "utf-8")


def _rewrite(path: Path, text: str) -> None:
    path.unlink()  # it may be a link to the file of an earlier edit
    path.write_text(text, "utf-8")


def _point(link: Path, target: Path) -> None:
    """As Kubernetes changes a mounted ConfigMap: one rename, after which the link is another."""
    fresh = link.with_name(f"{link.name}.fresh")
    fresh.symlink_to(target)
    fresh.replace(link)
