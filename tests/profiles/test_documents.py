from pathlib import Path

import pytest

from server.core.errors import Finding, PromptFilesError
from server.profiles.documents import load_document, parse_document
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
        parse_document(text, "constitutions/c.yaml", ConstitutionFile)
    return caught.value.findings


def test_a_good_file_gives_its_model_and_lines() -> None:
    file, lines = parse_document(GOOD, "c.yaml", ConstitutionFile)
    assert file.principles[0].text == "Be kind."
    assert lines[("principles", 0, "text")] == 6


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


def test_a_file_that_is_not_text_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(PromptFilesError, match="cannot be read as UTF-8"):
        load_document(path, "c.yaml", ConstitutionFile)


def test_a_finding_reads_as_editors_jump_to_it() -> None:
    assert str(Finding("a.yaml", 3, "id", "is wrong")) == "a.yaml:3: id: is wrong"
    assert str(Finding("a.yaml", 0, "", "is wrong")) == "a.yaml: is wrong"
