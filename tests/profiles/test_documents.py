import pytest

from server.core.errors import Finding, PromptFilesError
from server.profiles.documents import read_yaml
from server.profiles.schema import ConstitutionFile

GOOD = """\
id: c
description: d
source: s
principles:
  - id: one
    text: Be kind.
    aspect: helpful
"""


def findings_of(text: str) -> tuple[Finding, ...]:
    with pytest.raises(PromptFilesError) as caught:
        read_yaml(text, "constitutions/c.yaml").check(ConstitutionFile)
    return caught.value.findings


def test_a_good_file_gives_its_model_and_lines() -> None:
    document = read_yaml(GOOD, "c.yaml")
    file = document.check(ConstitutionFile)
    assert file.principles[0].text == "Be kind."
    assert document.line_of("principles", 0, "text") == 6


@pytest.mark.parametrize(
    ("change", "line", "field", "words"),
    [
        (("aspect: helpful", "aspect: funny"), 7, "principles[0].aspect", "'helpful', 'honest'"),
        (("text: Be kind.", "txt: Be kind."), 6, "principles[0].txt", "Extra inputs"),
        (("    text: Be kind.\n", ""), 5, "principles[0].text", "Field required"),
        (("id: one", "id: One Two"), 5, "principles[0].id", "pattern"),
        (("aspect: helpful", "aspect: helpful\n    weight: -1"), 8, "principles[0].weight", "greater than 0"),
        (("id: c", "id: off"), 1, "id", "found False"),
        (("description: d", "id: c"), 2, "", "given twice"),
        (("principles:", "principles: ["), 5, "", "is not YAML"),
        (("source: s", "source: !!python/object:os.system s"), 3, "", "is not YAML"),
    ],
)
def test_a_fault_is_found_at_its_line_and_field(change: tuple[str, str], line: int, field: str, words: str) -> None:
    findings = findings_of(GOOD.replace(*change, 1))
    found = {(finding.path, finding.line, finding.field): finding.message for finding in findings}
    assert words in found["constitutions/c.yaml", line, field]


def test_all_faults_of_a_file_are_found_at_once() -> None:
    assert len(findings_of(GOOD.replace("text: Be kind.", "").replace("aspect: helpful", "aspect: x"))) == 2


@pytest.mark.parametrize("text", ["", "- a list", "just text", "\x00", "a: " + "[" * 5000])
def test_what_is_no_mapping_is_a_finding(text: str) -> None:
    assert findings_of(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &x 1\nb: *x", 1, "anchors"),
        ("a: 1\nb: &x [*x]", 2, "anchors"),
        ("a: !!python/object:os.system x", 1, "tags"),
        ("a: 2020-13-45", 1, "cannot be read"),
        ("a: 1\n---\nb: 2", 0, "more than one document"),
        ("? [a]\n: 1", 1, "keys must be text"),
        ("- " * 100_000 + "a", 1, "nested deeper"),
        ("[" * 100_000, 1, "nested deeper"),
        ('a: "\\x"', 1, "not YAML"),
    ],
)
def test_what_prompt_files_do_not_need_is_refused(text: str, line: int, words: str) -> None:
    with pytest.raises(PromptFilesError, match=words) as caught:
        read_yaml(text, "a.yaml")
    assert caught.value.findings[0].line == line


def test_scalars_are_read_as_in_yaml_elsewhere() -> None:
    data = read_yaml("a: 1\nb: 1.5\nc: yes\nd: ~\ne: 'yes'\nf: |-\n  two\n  lines\ng: []\nh: {i: j}\n", "a.yaml").data
    assert data == {"a": 1, "b": 1.5, "c": True, "d": None, "e": "yes", "f": "two\nlines", "g": [], "h": {"i": "j"}}


def test_a_finding_reads_as_editors_jump_to_it() -> None:
    assert str(Finding("a.yaml", 3, "id", "is wrong")) == "a.yaml:3: id: is wrong"
    assert str(Finding("a.yaml", 0, "", "is wrong")) == "a.yaml: is wrong"
