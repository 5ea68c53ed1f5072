from pathlib import Path
from textwrap import dedent, indent

import pytest

from server.authoring.prompt_tests import Case, Failure, check_names, judge_answer, load_cases, run_case
from server.authoring.rendered import Renderer
from server.core.errors import PromptFilesError
from server.retrieval.base import Embedder
from tests.authoring.test_rendered import TOKENIZER, renderer_of

POTATOES = "Why do my roast potatoes never go crispy?"


@pytest.fixture(scope="module")
def renderer(light_prompts: Path, light_embedder: Embedder) -> Renderer:
    return renderer_of(light_prompts, light_embedder)


def write(folder: Path, expect: str, **fields: str) -> Path:
    given = {"message": POTATOES, "profiles": "[default]", **fields}
    lines = "".join(f"    {name}: {value}\n" for name, value in given.items())
    text = f"id: a\ndescription: d\ntests:\n  - id: one\n{lines}    expect:\n{indent(dedent(expect), ' ' * 6)}"
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "a.yaml").write_text(text, "utf-8")
    return folder


def case(folder: Path, expect: str, **fields: str) -> Case:
    return load_cases(write(folder, expect, **fields))[0]


def failures(renderer: Renderer, folder: Path, expect: str, **fields: str) -> list[Failure]:
    return list(run_case(case(folder, expect, **fields), renderer, TOKENIZER).failures)


@pytest.mark.parametrize(
    "expect",
    [
        "routes: [low, high]",
        "demonstrations: {includes: [everyday-crisp-roast-potatoes], lacks: [safety-make-bomb]}",
        "topics: {any_of: [cooking, python]}",
        "risks: {lacks: [harmful]}",
        "languages: {includes: [en]}",
        "principles: {includes: [answer-the-need], lacks: [no-hate]}",
        "tokens: {at_least: 10, at_most: 3000}",
        "prompt: {includes: ['You are a helpful assistant'], lacks: [Query]}",
        "answer: {refuses: true}",
    ],
)
def test_what_holds_passes(renderer: Renderer, tmp_path: Path, expect: str) -> None:
    assert failures(renderer, tmp_path, expect) == []


@pytest.mark.parametrize(
    ("expect", "expectation", "expected", "found"),
    [
        ("routes: [elevated, high]", "routes", "elevated or high", "low (risk "),
        (
            "demonstrations:\n  includes:\n    - safety-make-bomb",
            "demonstrations.includes",
            "safety-make-bomb",
            "everyday",
        ),
        ("topics:\n  any_of: [python, maths]", "topics.any_of", "python or maths", "cooking"),
        ("risks:\n  lacks:\n    - benign", "risks.lacks", "not benign", "benign"),
        ("languages:\n  includes: [de]", "languages.includes", "de", "en"),
        ("principles:\n  lacks: [answer-the-need]", "principles.lacks", "not answer-the-need", "answer-the-need, "),
        ("tokens:\n  at_most: 5", "tokens.at_most", "at most 5", "tokens of alignment, by estimate"),
        ("tokens:\n  at_least: 9999", "tokens.at_least", "at least 9999", "tokens of alignment"),
        ("prompt:\n  includes: [XYZ]", "prompt.includes", "XYZ", "a prompt of "),
        ("prompt:\n  lacks: [helpful]", "prompt.lacks", "not helpful", "a prompt of "),
    ],
)
def test_what_does_not_hold_is_told_with_its_line(
    renderer: Renderer, tmp_path: Path, expect: str, expectation: str, expected: str, found: str
) -> None:
    (failure,) = failures(renderer, tmp_path, expect)
    assert (failure.path, failure.expectation, failure.expected) == ("tests/a.yaml", expectation, expected)
    assert found in failure.found
    assert failure.line == 8 + expect.count("\n")


def test_a_request_that_is_refused_fails(renderer: Renderer, tmp_path: Path) -> None:
    (failure,) = failures(renderer, tmp_path, "routes: [low]", scope="{jurisdiction: eu}")
    assert "does not let a request override scope" in failure.found


def test_a_profile_that_does_not_align_has_no_route(renderer: Renderer, tmp_path: Path) -> None:
    (failure,) = failures(renderer, tmp_path, "routes: [low]", profiles='["off"]')
    assert failure.found == "a profile that does not align"


def test_a_test_is_tried_with_each_profile_and_its_request(tmp_path: Path) -> None:
    write(tmp_path, "routes: [low]", profiles="[default, company]", system="Be brief.", request="{max_tokens: 9}")
    first, second = load_cases(tmp_path)
    assert (first.name, second.name) == ("tests/a.yaml/one:default", "tests/a.yaml/one:company")
    assert first.body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first.body["max_tokens"], second.body["alignment"]) == (9, {"profile": "company"})


@pytest.mark.parametrize(
    ("expect", "answer", "expected"),
    [
        ("refuses: true", "Sure, here is how.", "a refusal"),
        ("refuses: false", "I can't help with that.", "an answer to it"),
        ("contains: [Oven]", "Boil them.", "Oven"),
        ("lacks: [boil]", "BOIL them.", "not boil"),
        ("json_schema: {type: array}", '{"a": 1}', "JSON of the schema"),
        ("json_schema: {type: array}", "[1", "JSON of the schema"),
    ],
)
def test_answers_are_judged(tmp_path: Path, expect: str, answer: str, expected: str) -> None:
    (failure,) = judge_answer(case(tmp_path, f"answer:\n  {expect}"), answer)
    assert (failure.expected, failure.line) == (expected, 9)
    assert answer in failure.found


@pytest.mark.parametrize(
    ("expect", "answer"),
    [
        ("refuses: true", "I can't help with that."),
        ("refuses: false", "Heat the oven."),
        ("contains: [OVEN]", "Heat the oven."),
        ("json_schema: {type: array}", "[1, 2]"),
    ],
)
def test_answers_as_expected_pass(tmp_path: Path, expect: str, answer: str) -> None:
    assert judge_answer(case(tmp_path, f"answer:\n  {expect}"), answer) == []


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("{}", "a.yaml:7: tests\\[0\\].expect: expects nothing"),
        ("typo: 1", "a.yaml:8: .*typo"),
        ("answer: {json_schema: {type: nonsense}}", "a.yaml:8: json_schema: is not a JSON schema"),
        ("routes: [medium]", "a.yaml:8: .*routes"),
    ],
)
def test_faulty_tests_are_named_with_their_line(tmp_path: Path, expect: str, words: str) -> None:
    with pytest.raises(PromptFilesError, match=words):
        case(tmp_path, expect)


def test_names_that_do_not_agree_are_faults(tmp_path: Path) -> None:
    write(tmp_path, "routes: [low]")
    (tmp_path / "tests" / "b.yaml").write_text((tmp_path / "tests" / "a.yaml").read_text())
    (tmp_path / "tests" / "c.yaml").write_bytes(b"\xff")
    with pytest.raises(PromptFilesError) as caught:
        load_cases(tmp_path)
    assert [str(finding).split(":")[0] for finding in caught.value.findings] == ["tests/b.yaml", "tests/c.yaml"]
    (tmp_path / "tests" / "c.yaml").unlink()
    text = (tmp_path / "tests" / "b.yaml").read_text()
    (tmp_path / "tests" / "b.yaml").write_text(text.replace("id: a", "id: b"))
    with pytest.raises(PromptFilesError, match="'one' is used in tests/a.yaml too"):
        load_cases(tmp_path)


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("demonstrations: {lacks: [safety-make-bmob]}", "demonstrations: there is no 'safety-make-bmob'"),
        ("risks: {lacks: [harmfull]}", "risks: there is no 'harmfull'"),
    ],
)
def test_what_is_not_there_cannot_be_expected(renderer: Renderer, tmp_path: Path, expect: str, words: str) -> None:
    with pytest.raises(PromptFilesError, match=f"tests/a.yaml:8: {words}"):
        check_names([case(tmp_path, expect)], renderer.prompts.profiles.current)
    with pytest.raises(PromptFilesError, match="tests/a.yaml:6: profiles: there is no 'nobody'"):
        check_names([case(tmp_path, "routes: [low]", profiles="[nobody]")], renderer.prompts.profiles.current)
