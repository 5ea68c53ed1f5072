import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.authoring.new import add_demonstration, new_constitution, new_demonstration, new_profile, new_template
from server.core.errors import ConfigurationError
from server.core.types import Rendering, Risk
from server.profiles.store import load_profiles
from tests.authoring.folders import edit, make_folder
from tests.conftest import PROMPTS

TALK = "demonstrations/talk.yaml"
BANKS = sorted((PROMPTS / "demonstrations").glob("*.yaml"))
ENTRY = {"id": "new-one", "aspect": "helpful", "risk": "benign", "user": "Who?", "assistant": "You: me, or both."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "prompts")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", BANKS, ids=lambda path: path.stem)
def test_a_demonstration_is_added_to_a_shipped_file_without_touching_the_rest(path: Path) -> None:
    text = path.read_text("utf-8")
    after = add_demonstration(text, ENTRY, path.name)
    assert after.startswith(text.rstrip("\n"))
    assert yaml.safe_load(after)["demonstrations"] == [*yaml.safe_load(text)["demonstrations"], ENTRY]


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        ("      Seven minutes for a soft yolk.\n", "      Seven minutes for a soft yolk."),
        ("      Seven minutes for a soft yolk.\n", "      Seven minutes.\n      # no comment\n\n\n# one at the end\n"),
        ("  - id: boil-egg", "  # one before it\n  - id: boil-egg"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_it_goes_after_the_last_one_whatever_stands_there(folder: Path, change: tuple[str, str], line_end: str) -> None:
    path = folder / TALK
    text = path.read_text("utf-8").replace(*change, 1) if change[0] else path.read_text("utf-8")
    path.write_bytes(text.replace("\n", line_end).encode())
    before = path.read_bytes()
    new_demonstration(folder, "new-one", "talk", user="Who?")
    after = path.read_bytes()
    kept = before.rstrip(b"\r\n").removesuffix(b"# one at the end").rstrip(b"\r\n")
    assert after.startswith(kept)
    assert after.endswith(before[len(kept) :].lstrip(b"\r\n"))
    assert re.search(rb"(?<!\r)\n", after) is None or line_end == "\n"
    assert [item.id for item in load_profiles(folder)["one"].demonstrations][-1] == "new-one"


def test_it_goes_before_what_follows_the_list(folder: Path) -> None:
    head, rest = (folder / TALK).read_text("utf-8").split("demonstrations:\n")
    (folder / TALK).write_text(f"demonstrations:\n{rest}\n# about the file\n{head}", "utf-8")
    new_demonstration(folder, "new-one", "talk", user="Who?")
    text = (folder / TALK).read_text("utf-8")
    assert text.endswith(f"\n\n# about the file\n{head}")
    assert text.startswith(f"demonstrations:\n{rest}\n  - id: new-one\n")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(user=st.text(min_size=1), assistant=st.text(min_size=1))
def test_any_text_is_added_as_it_is_or_refused(user: str, assistant: str) -> None:
    text = BANKS[0].read_text("utf-8")
    entry = {**ENTRY, "user": user, "assistant": assistant}
    try:
        after = add_demonstration(text, entry, "a.yaml")
    except ConfigurationError:
        return
    assert yaml.safe_load(after)["demonstrations"][-1] == entry


def test_a_lookalike_follows_its_refusal_closely(folder: Path) -> None:
    new_demonstration(folder, "cut-key", "talk", risk=Risk.HARMFUL)
    new_demonstration(
        folder, "cut-key-own", "talk", contrast="cut-key", user="Two\nlines", assistant="Yes: do.\n\nThus."
    )
    assert (
        (folder / TALK)
        .read_text("utf-8")
        .endswith(
            """\
  - id: cut-key
    aspect: harmless
    risk: harmful
    user: 'TODO: the message, as a person would type it.'
    assistant: |-
      TODO: the answer to imitate.
  - id: cut-key-own
    aspect: helpful
    risk: lookalike
    contrast: cut-key
    user: |-
      Two
      lines
    assistant: |-
      Yes: do.

      Thus.
"""
        )
    )


def test_a_topic_is_made_where_there_is_none_and_json_lines_get_a_line(folder: Path) -> None:
    edit(folder, "profiles/one.yaml", "[talk]", "[talk, bread, lines]")
    (folder / "demonstrations" / "lines.jsonl").write_bytes(b"")
    path = new_demonstration(
        folder, "rising", "bread", user="What makes bread rise?", assistant="Yeast.", language="en"
    )
    lines = new_demonstration(folder, "falling", "lines", user="What makes it fall?")
    new_demonstration(folder, "landing", "lines", user="What makes it land?")
    assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=../schemas/demonstrations.json\n")
    assert lines.read_text("utf-8").count("\n") == 2
    assert [item.id for item in load_profiles(folder)["one"].demonstrations][-3:] == ["rising", "falling", "landing"]


@pytest.mark.parametrize("rendering", [Rendering.CHAT, Rendering.COMPLETION])
def test_new_files_load_at_once(folder: Path, rendering: Rendering) -> None:
    new_constitution(folder, "mine", description="Mine: all of it.")
    new_template(folder, "mine", template="chat")
    new_profile(folder, "mine", rendering=rendering, constitution="mine", template="mine")
    new_profile(folder, "heir", extends="mine", constitution="rules")
    profiles = load_profiles(folder)
    assert (profiles["mine"].rendering, profiles["mine"].constitution.id) == (rendering, "mine")
    assert (profiles["heir"].rendering, profiles["heir"].constitution.id) == (rendering, "rules")
    assert profiles["heir"].retrieval == profiles["mine"].retrieval


def test_what_cannot_be_is_refused_and_nothing_is_written(folder: Path) -> None:
    (folder / "demonstrations" / "flow.yaml").write_text(
        "{id: flow, description: d, source: s, demonstrations: "
        "[{id: a, aspect: helpful, risk: benign, user: u, assistant: a}]}"
    )
    before = files_of(folder)
    refused: list[tuple[Callable[[], Path], str]] = [
        (lambda: new_profile(folder, "one"), "is there already"),
        (lambda: new_profile(folder, "two", extends="nobody"), "there is no profile 'nobody'"),
        (lambda: new_profile(folder, "two", constitution="nobody"), "there is no 'nobody'"),
        (lambda: new_profile(folder, "Two"), "'Two' is no id"),
        (lambda: new_constitution(folder, "../two"), "is no id"),
        (lambda: new_template(folder, "../../two"), "is no id"),
        (lambda: new_template(folder, "two", template="nobody"), "no template 'nobody'"),
        (lambda: new_demonstration(folder, "pick-lock", "talk"), "used twice"),
        (lambda: new_demonstration(folder, "pick-lock", "fresh"), "used twice"),
        (lambda: new_demonstration(folder, "two", "talk", contrast="nobody"), "there is no 'nobody'"),
        (lambda: new_demonstration(folder, "two", "talk", aspect="funny"), "'helpful', 'honest'"),
        (lambda: new_demonstration(folder, "two", "../talk"), "is no id"),
        (lambda: new_demonstration(folder, "two", "flow"), "there is no list of demonstrations"),
    ]
    for act, words in refused:
        with pytest.raises(ConfigurationError, match=words):
            act()
    assert files_of(folder) == before
