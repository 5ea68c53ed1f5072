from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from server.core.errors import PromptFilesError
from server.core.types import Placement, Rendering, Risk, Route
from server.profiles.folder import FolderReader
from server.profiles.store import load_profiles
from tests.conftest import PROMPTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copytree(PROMPTS, tmp_path / "prompts")
    return tmp_path / "prompts"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_shipped_profiles_load() -> None:
    profiles = load_profiles(PROMPTS)
    assert {name: profile.rendering for name, profile in profiles.items()} == {
        "default": Rendering.CHAT,
        "base": Rendering.COMPLETION,
        "smollm2-135m-instruct": Rendering.CHAT,
        "gemma-3-270m": Rendering.COMPLETION,
        "company": Rendering.CHAT,
        "company-base": Rendering.COMPLETION,
        "public-service": Rendering.CHAT,
        "public-service-base": Rendering.COMPLETION,
        "off": Rendering.NONE,
    }


def test_a_version_follows_content_and_nothing_else(folder: Path) -> None:
    before = load_profiles(PROMPTS)
    assert load_profiles(folder)["default"].version == before["default"].version
    edit(folder / "constitutions" / "general.yaml", "Answer the question", "Answer each question")
    after = load_profiles(folder)
    assert after["default"].version != before["default"].version
    assert after["off"].version == before["off"].version


def test_a_comment_changes_no_version(folder: Path) -> None:
    edit(folder / "profiles" / "default.yaml", "id: default", "# a remark\nid: default")
    assert load_profiles(folder)["default"].version == load_profiles(PROMPTS)["default"].version


def test_messages_are_inherited_and_part_of_the_version(folder: Path) -> None:
    before = load_profiles(folder)
    assert len(before["default"].risk_messages) > 4000
    assert before["company"].risk_messages is before["default"].risk_messages
    edit(folder / "risk" / "fraud.yaml", "harmful:\n  - ", "harmful:\n  - Please ")
    after = load_profiles(folder)
    changed = {name for name in before if after[name].version != before[name].version}
    assert changed == before.keys() - {"off"}


def test_openings_are_merged_stripped_and_part_of_the_version(folder: Path) -> None:
    extend(folder, "mine", "default", 'openings: {low: "Sure: ", high: Nope}\n')
    extend(folder, "heir", "mine", "openings: {low: null, elevated: Well}\n")
    profiles = load_profiles(folder)
    assert profiles["mine"].openings == {"low": "Sure:", "high": "Nope"}
    assert profiles["heir"].openings == {"elevated": "Well", "high": "Nope"}
    before = profiles["mine"].version
    extend(folder, "mine", "default", "openings: {low: Sure, high: Nope}\n")
    assert load_profiles(folder)["mine"].version != before
    extend(folder, "mine", "default", "openings: {low: ' ', other: Well}\n")
    assert {field for _, field, _ in findings_of(folder)["profiles/mine.yaml"]} == {
        *("openings.low", "openings.other.[key]")
    }


def test_a_profile_takes_the_messages_that_it_names(folder: Path) -> None:
    edit(folder / "profiles" / "default.yaml", 'risk: ["*"]', "risk: [fraud, s*-talk]")
    profiles = load_profiles(folder)
    assert {item.file for item in profiles["default"].risk_messages} == {"fraud", "small-talk"}
    edit(folder / "profiles" / "company.yaml", "extends: default", "extends: default\nrisk: null")
    assert load_profiles(folder)["company"].risk_messages == ()


def test_pinned_demonstrations_are_not_retrieved(folder: Path) -> None:
    edit(folder / "profiles" / "default.yaml", "pinned: []", "pinned: [maths-bun-boxes]")
    profile = load_profiles(folder)["default"]
    assert [item.id for item in profile.pinned] == ["maths-bun-boxes"]
    assert "maths-bun-boxes" not in {item.id for item in profile.demonstrations}


@pytest.mark.parametrize(
    ("old", "new", "line_of", "words"),
    [
        ("constitution: general", "constitution: generol", "constitution: generol", "there is no 'generol'"),
        ("template: chat", "template: chatt", "template: chatt", "there is no 'chatt'"),
        ("pinned: []", "pinned: [nobody]", "pinned:", "there is no 'nobody'"),
        ("[everyday, code", "[everyday, cod", "demonstrations: [", "there is no 'cod'"),
        ('risk: ["*"]', "risk: [fraud, frauds]", "risk:", "there is no 'frauds'"),
        ("id: default", "id: another", "id: another", "must be the file's name, 'default'"),
        ("num_demonstrations: ", "num_demonstration: ", "num_demonstration:", "Extra inputs"),
        ("    elevated:", "    elevatd:", "elevatd:", "'low', 'elevated' or 'high'"),
        ("rendering: chat", "rendering: none", "# yaml-language-server", "takes no other fields"),
    ],
)
def test_a_profile_that_names_what_is_not_there_is_found(
    folder: Path, old: str, new: str, line_of: str, words: str
) -> None:
    path = folder / "profiles" / "default.yaml"
    edit(path, old, new)
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    lines = path.read_text("utf-8").splitlines()
    expected = next(number for number, line in enumerate(lines, 1) if line_of in line)
    (finding,) = [finding for finding in caught.value.findings if finding.path == "profiles/default.yaml"]
    assert finding.line in {expected, expected + 1}
    assert words in finding.message


def test_an_id_used_twice_and_a_missing_contrast_are_found(folder: Path) -> None:
    edit(folder / "demonstrations" / "maths.yaml", "id: maths-bun-boxes", "id: code-python-chunks")
    edit(folder / "demonstrations" / "harm-weapons.yaml", "contrast: ", "contrast: no-")
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    messages = [str(finding) for finding in caught.value.findings]
    assert any("'code-python-chunks' is used twice" in message for message in messages)
    assert any("contrast: there is no 'no-safety" in message for message in messages)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pinned: []", "pinned: [maths-bun-boxes, maths-bun-boxes]", "twice"),
        ("low: {benign: 4", "low: {benign: -4", "greater than or equal to 0"),
        ("pinned: []", "sampling: {stop: 2026-01-01}", "sampling"),
        ("pinned: []", "sampling: {stream: true}", "sampling cannot set stream"),
        ("pinned: []", "? [a]\n: b", "keys must be text"),
    ],
)
def test_values_that_make_no_sense_are_found(folder: Path, old: str, new: str, words: str) -> None:
    edit(folder / "profiles" / "default.yaml", old, new)
    with pytest.raises(PromptFilesError, match=words):
        load_profiles(folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [("{seed: 99999999999999999999}", "Integer exceeds 64-bit range"), ("{temperature: .nan}", "JSON does not have")],
)
def test_sampling_is_what_can_be_sent(folder: Path, value: str, words: str) -> None:
    edit(folder / "profiles" / "default.yaml", "pinned: []", f"sampling: {value}")
    with pytest.raises(PromptFilesError, match=words):
        load_profiles(folder)


def test_files_that_would_not_be_read_are_found(folder: Path) -> None:
    (folder / "profiles" / "mine.yml").write_text("id: mine")
    (folder / "templates" / "mine.jinja").write_bytes(b"\xff")
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    assert [finding.path for finding in caught.value.findings] == ["profiles/mine.yml", "templates/mine.jinja"]


def test_a_folder_without_profiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptFilesError, match="no folder profiles/"):
        load_profiles(tmp_path)
    (tmp_path / "profiles").mkdir()
    with pytest.raises(PromptFilesError, match="holds no profile"):
        load_profiles(tmp_path)


def extend(folder: Path, name: str, parent: object, more: str = "") -> Path:
    """Write a profile that extends another."""
    path = folder / "profiles" / f"{name}.yaml"
    path.write_text(f"id: {name}\ndescription: Of {name}.\nextends: {parent}\n{more}", "utf-8")
    return path


def findings_of(folder: Path) -> dict[str, list[tuple[int, str, str]]]:
    """Line, field and message of each finding, by the file's name."""
    found: dict[str, list[tuple[int, str, str]]] = {}
    with pytest.raises(PromptFilesError) as caught:
        load_profiles(folder)
    for finding in caught.value.findings:
        found.setdefault(finding.path, []).append((finding.line, finding.field, finding.message))
    return found


def test_a_profile_has_what_it_extends_save_id_and_description(folder: Path) -> None:
    extend(folder, "mine", "default")
    profiles = load_profiles(folder)
    mine, default = profiles["mine"], profiles["default"]
    assert (mine.id, mine.description) == ("mine", "Of mine.")
    assert replace(mine, id="default", description=default.description, version=default.version) == default
    assert mine.version != default.version


def test_mappings_are_merged_lists_replaced_and_null_removes(folder: Path) -> None:
    more = "retrieval: {num_demonstrations: 2, quotas: {low: {benign: 1}}}\noverridable: [placement]\nplacement: null\n"
    extend(folder, "mine", "default", f"{more}sampling: {{temperature: 0}}\n")
    extend(folder, "mine-too", "mine", "placement: system\nsampling: {temperature: null, top_p: 1}\nretrieval: null\n")
    profiles = load_profiles(folder)
    mine, default = profiles["mine"], profiles["default"]
    assert (mine.retrieval.num_demonstrations, default.retrieval.num_demonstrations) == (2, 4)
    assert mine.retrieval.quotas[Route.LOW] == {**default.retrieval.quotas[Route.LOW], Risk.BENIGN: 1}
    assert mine.retrieval.quotas[Route.HIGH] == default.retrieval.quotas[Route.HIGH]
    assert mine.overridable == {"placement"}
    assert mine.placement is Placement.TURNS
    assert mine.sampling == {"temperature": 0}
    second = profiles["mine-too"]
    assert second.placement is Placement.SYSTEM
    assert second.sampling == {"top_p": 1}
    assert second.overridable == {"placement"}
    assert second.retrieval.num_demonstrations == 0


def test_a_chain_is_followed_to_its_end_but_not_for_ever(folder: Path) -> None:
    for number in range(1, 12):
        extend(folder, f"p{number}", f"p{number - 1}" if number > 1 else "default")
    found = findings_of(folder)
    assert found.keys() == {f"profiles/p{number}.yaml" for number in (9, 10, 11)}
    assert found["profiles/p9.yaml"] == [(3, "extends", "extends more than 8 profiles, one over the other")]
    for number in (9, 10, 11):
        (folder / "profiles" / f"p{number}.yaml").unlink()
    assert load_profiles(folder)["p8"].constitution == load_profiles(folder)["default"].constitution


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_is_found_in_each_of_its_profiles(folder: Path, length: int) -> None:
    names = [f"p{number}" for number in range(length)]
    for name, parent in zip(names, [*names[1:], names[0]], strict=True):
        extend(folder, name, parent)
    extend(folder, "heir", "p0")
    found = findings_of(folder)
    assert found.keys() == {f"profiles/{name}.yaml" for name in names}
    shown = " extends ".join([*names, "p0"])
    assert found["profiles/p0.yaml"] == [(3, "extends", f"goes round in a circle: {shown}")]


@pytest.mark.parametrize("parent", ["nobody", "[default]", "{default: 1}", "1", "''"])
def test_a_parent_that_is_not_there_is_found_once(folder: Path, parent: str) -> None:
    extend(folder, "mine", parent)
    extend(folder, "heir", "mine")
    ((line, field, message),) = findings_of(folder)["profiles/mine.yaml"]
    assert (line, field) == (3, "extends")
    assert message.startswith("there is no profile ")
    assert findings_of(folder).keys() == {"profiles/mine.yaml"}


def test_a_faulty_parent_is_told_of_by_itself(folder: Path) -> None:
    edit(folder / "profiles" / "default.yaml", "id: default", "id: [")
    assert findings_of(folder).keys() == {"profiles/default.yaml"}


def test_a_field_is_found_where_it_is_written_or_where_it_comes_in(folder: Path) -> None:
    extend(folder, "mine", "default", "retrieval:\n  num_principles: 5\n  mmr_lambda: 7\n")
    extend(folder, "other", "'off'", "rendering: chat\n")
    found = findings_of(folder)
    assert [(line, field) for line, field, _ in found["profiles/mine.yaml"]] == [(6, "retrieval.mmr_lambda")]
    assert found["profiles/other.yaml"][0][2] == "a rendering needs a template and a constitution"


def test_what_an_heir_makes_wrong_of_an_inherited_field_is_found_at_extends(folder: Path) -> None:
    extend(folder, "mine", "base", "sampling:\n  max_tokens: null\n")
    extend(folder, "other", "default", "rendering: none\n")
    found = findings_of(folder)
    assert "needs sampling.max_tokens" in found["profiles/mine.yaml"][0][2]
    assert "rendering none takes no other fields" in found["profiles/other.yaml"][0][2]


def test_patterns_take_every_file_that_matches_once_in_their_order(folder: Path) -> None:
    extend(folder, "mine", "default", 'demonstrations: ["harm-[a]*", "in-german"]\n')
    assert findings_of(folder)["profiles/mine.yaml"][0][1] == "demonstrations[0]"
    extend(folder, "mine", "default", 'demonstrations: [maths, "in-*", in-german, "h?nesty", "m*"]\n')
    topics = list(dict.fromkeys(item.topic for item in load_profiles(folder)["mine"].demonstrations))
    files = [path.stem for path in sorted((folder / "demonstrations").glob("in-*"))]
    expected = [*file_topics(folder, "maths"), *(topic for name in files for topic in file_topics(folder, name))]
    assert topics == list(dict.fromkeys([*expected, *file_topics(folder, "honesty")]))


def file_topics(folder: Path, name: str) -> list[str]:
    found = FolderReader(folder).read().banks[name].file.demonstrations
    return list(dict.fromkeys(item.topic for item in found))


def test_a_pattern_takes_in_a_new_file_and_changes_the_version(folder: Path) -> None:
    before = load_profiles(folder)["default"]
    text = (folder / "demonstrations" / "in-german.yaml").read_text("utf-8")
    text = text.replace("id: in-german", "id: in-saxon", 1).replace("  - id: ", "  - id: saxon-")
    (folder / "demonstrations" / "in-saxon.yaml").write_text(text.replace("contrast: ", "contrast: saxon-"), "utf-8")
    after = load_profiles(folder)["default"]
    assert len(after.demonstrations) > len(before.demonstrations)
    assert after.version != before.version


def test_a_pattern_that_matches_nothing_is_found(folder: Path) -> None:
    extend(folder, "mine", "default", 'demonstrations: [maths, "no-*"]\n')
    assert findings_of(folder)["profiles/mine.yaml"] == [(4, "demonstrations", "there is no 'no-*'")]


def test_a_scope_is_of_dimensions_that_principles_have(folder: Path) -> None:
    extend(folder, "mine", "company", "scope:\n  jurisdiction: eu\n  planet: mars\n")
    ((line, field, message),) = findings_of(folder)["profiles/mine.yaml"]
    assert (line, field) == (6, "scope")
    assert "has the dimension 'planet'" in message
    extend(folder, "mine", "company", "scope: {jurisdiction: eu}\n")
    profiles = load_profiles(folder)
    assert profiles["mine"].scope == {"jurisdiction": "eu"}
    assert profiles["mine"].version != profiles["company"].version


def test_a_pinned_principle_has_no_scope(folder: Path) -> None:
    path = folder / "constitutions" / "company.yaml"
    edit(path, "    scope:", "    pinned: true\n    scope:")
    assert "can have no scope" in findings_of(folder)["constitutions/company.yaml"][0][2]


def test_what_files_say_of_a_faulty_one_is_not_told(folder: Path) -> None:
    for name in ("constitutions/general.yaml", "demonstrations/maths.yaml"):
        (folder / name).write_text("[", "utf-8")
    edit(folder / "profiles" / "default.yaml", "pinned: []", "pinned: [maths-bun-boxes]")
    assert findings_of(folder).keys() == {"constitutions/general.yaml", "demonstrations/maths.yaml"}


def test_lines_of_json_are_a_bank_as_any_other(folder: Path) -> None:
    line = '{"id": "%s", "aspect": "helpful", "risk": "benign", "user": "u", "assistant": "a"}\n'
    path = folder / "demonstrations" / "lines.jsonl"
    path.write_text(line % "one" + "\n" + line % "maths-bun-boxes", "utf-8")
    assert [where[:2] for where in findings_of(folder)["demonstrations/maths.yaml"]] == [(7, "id")]
    path.write_text(line % "one", "utf-8")
    extend(folder, "mine", "default", "demonstrations: [lines]\npinned: [one]\n")
    mine = load_profiles(folder)["mine"]
    assert ([item.id for item in mine.pinned], mine.demonstrations) == (["one"], ())
