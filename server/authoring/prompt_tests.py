"""Prompt tests: reads them from tests/*.yaml in a prompts folder and holds prompts and answers against them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator, SchemaError

from server.authoring.refusal import refuses
from server.authoring.rendered import Rendered, Renderer
from server.authoring.requests import messages_of, with_choice
from server.core.errors import Finding, PromptFilesError, RequestError
from server.core.types import Body, Profile, Risk
from server.profiles.documents import Document, read_yaml
from server.profiles.schema import AnswerExpectation, Bounds, Listed, PromptTestEntry, PromptTestFile
from server.rendering.forms.chat import ChatForm
from server.rendering.forms.registry import FORMS
from server.rendering.tokens import Tokenizer

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Case:
    """A test with one of its profiles. `index` is its place in its file."""

    test: PromptTestEntry
    profile: str
    index: int
    document: Document

    @property
    def name(self) -> str:
        """What `-k` looks in."""
        return f"{self.document.shown}/{self.test.id}:{self.profile}"

    @property
    def body(self) -> Body:
        """The chat request."""
        test = self.test
        messages = [message.model_dump() for message in test.messages] or messages_of(test.message or "", None)
        before = [] if test.system is None else [{"role": "system", "content": test.system}]
        body = {"model": "model", **test.request, "messages": [*before, *messages]}
        return with_choice(body, self.profile, test.scope)

    def line_of(self, *place: str | int) -> int:
        """Where in the file an expectation stands."""
        return self.document.line_of("tests", self.index, *place)


@dataclass(frozen=True)
class Failure:
    """An expectation that did not hold, at `path:line`."""

    path: str
    line: int
    expectation: str
    expected: str
    found: str


@dataclass(frozen=True)
class Outcome:
    """What came of a case. `rendered` is None where the request was refused."""

    case: Case
    rendered: Rendered | None
    failures: tuple[Failure, ...]

    @property
    def wants_answer(self) -> bool:
        """Whether anything is expected of an answer."""
        return self.case.test.expect.answer is not None


def load_cases(directory: Path) -> list[Case]:
    """The cases of all files, in order. Raises PromptFilesError with all findings."""
    findings: list[Finding] = []
    cases: list[Case] = []
    first: dict[str, str] = {}
    for path in sorted((directory / "tests").glob("*.yaml")):
        try:
            found = _load(path, f"tests/{path.name}")
        except PromptFilesError as error:
            findings.extend(error.findings)
            continue
        for case in found:
            where = first.setdefault(case.test.id, case.document.shown)
            if where != case.document.shown:
                fault = f"{case.test.id!r} is used in {where} too"
                findings.append(Finding(case.document.shown, case.line_of("id"), "id", fault, "give one another id"))
        cases += found
    if findings:
        raise PromptFilesError(findings)
    return cases


def check_names(cases: Sequence[Case], profiles: Mapping[str, Profile]) -> None:
    """Raise PromptFilesError where a case names what is not in `profiles`, since a `lacks` of that could not fail."""
    bank = [item for profile in profiles.values() for item in (*profile.demonstrations, *profile.pinned)]
    known: Mapping[str, frozenset[str]] = {
        "demonstrations": frozenset(item.id for item in bank),
        "topics": frozenset(item.topic for item in bank),
        "risks": frozenset(Risk),
        "languages": frozenset(item.language for item in bank),
        "principles": frozenset(item.id for profile in profiles.values() for item in profile.constitution.principles),
    }
    findings = [finding for case in cases for finding in _unknown_names(case, profiles, known)]
    if findings:
        raise PromptFilesError(list(dict.fromkeys(findings)))


def _unknown_names(
    case: Case, profiles: Mapping[str, Profile], known: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    mend = "name one that is there"
    if case.profile not in profiles:
        yield Finding(case.document.shown, case.line_of("profiles"), "profiles", f"there is no {case.profile!r}", mend)
    for field, names in known.items():
        listed: Listed = getattr(case.test.expect, field)
        for item in (*listed.includes, *listed.any_of, *listed.lacks):
            if item not in names:
                yield Finding(case.document.shown, case.line_of("expect", field), field, f"there is no {item!r}", mend)


def run_case(case: Case, renderer: Renderer, tokenizer: Tokenizer) -> Outcome:
    """Hold the prompt against what is expected of it."""
    try:
        rendered = renderer.render(FORMS[ChatForm.path], case.body)
    except RequestError as error:
        return Outcome(case, None, (_failure(case, ("profiles",), "a prompt", str(error)),))
    return Outcome(case, rendered, tuple(_prompt_failures(case, rendered, tokenizer)))


def judge_answer(case: Case, answer: str) -> list[Failure]:
    """Hold an engine's answer against what is expected of it."""
    expected = case.test.expect.answer
    return [] if expected is None else list(_answer_failures(case, expected, answer))


def no_answer(case: Case, fault: str) -> Failure:
    """For an engine that did not answer, because of `fault`."""
    return _failure(case, ("expect", "answer"), "an answer", fault)


def _load(path: Path, shown: str) -> list[Case]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFilesError([Finding(shown, 0, "", f"cannot be read: {error}")]) from error
    document = read_yaml(text, shown)
    file = document.check(PromptTestFile)
    findings = list(_file_findings(file, document, path.stem))
    if findings:
        raise PromptFilesError(findings)
    return [Case(test, profile, index, document) for index, test in enumerate(file.tests) for profile in test.profiles]


def _file_findings(file: PromptTestFile, document: Document, stem: str) -> Iterator[Finding]:
    if file.id != stem:
        yield Finding(document.shown, document.line_of("id"), "id", f"must be the file's name, {stem!r}")
    seen: set[str] = set()
    for index, test in enumerate(file.tests):
        if test.id in seen:
            yield Finding(document.shown, document.line_of("tests", index, "id"), "id", f"{test.id!r} is used twice")
        seen.add(test.id)
        schema = test.expect.answer.json_schema if test.expect.answer else None
        try:
            Draft202012Validator.check_schema(schema or {})
        except SchemaError as error:
            line = document.line_of("tests", index, "expect", "answer", "json_schema")
            yield Finding(document.shown, line, "json_schema", f"is not a JSON schema: {error.message}")


def _prompt_failures(case: Case, rendered: Rendered, tokenizer: Tokenizer) -> Iterator[Failure]:
    expect, chosen = case.test.expect, rendered.demonstrations
    yield from _route_failures(case, rendered)
    found: Mapping[str, tuple[Listed, Sequence[str]]] = {
        "demonstrations": (expect.demonstrations, [item.id for item in chosen]),
        "topics": (expect.topics, [item.topic for item in chosen]),
        "risks": (expect.risks, [item.risk.value for item in chosen]),
        "languages": (expect.languages, [item.language for item in chosen]),
        "principles": (expect.principles, [item.id for item in rendered.principles]),
    }
    for name, (listed, items) in found.items():
        yield from _listed_failures(case, name, listed, items, ", ".join(dict.fromkeys(items)) or "none")
    yield from _token_failures(case, expect.tokens, rendered.trace.tokens.get("alignment", 0), tokenizer.name)
    text = "\n".join(message.text for message in rendered.messages)
    yield from _listed_failures(case, "prompt", expect.prompt, text, f"a prompt of {len(text)} characters")


def _route_failures(case: Case, rendered: Rendered) -> Iterator[Failure]:
    wanted = case.test.expect.routes
    for selection in rendered.selections:
        if wanted and selection.route not in wanted:
            found = f"{selection.route.value} (risk {selection.risk:.2f})"
            yield _failure(case, ("expect", "routes"), " or ".join(wanted), found)
    if wanted and not rendered.selections:
        yield _failure(case, ("expect", "routes"), " or ".join(wanted), "a profile that does not align")


def _listed_failures(case: Case, name: str, listed: Listed, items: Sequence[str], found: str) -> Iterator[Failure]:
    """`items` are a list of names, or one text."""
    place = ("expect", name)
    for index, item in enumerate(listed.includes):
        if item not in items:
            yield _failure(case, (*place, "includes", index), item, found)
    if listed.any_of and not any(item in items for item in listed.any_of):
        yield _failure(case, (*place, "any_of"), " or ".join(listed.any_of), found)
    for index, item in enumerate(listed.lacks):
        if item in items:
            yield _failure(case, (*place, "lacks", index), f"not {item}", found)


def _token_failures(case: Case, bounds: Bounds, tokens: int, tokenizer: str) -> Iterator[Failure]:
    found = f"{tokens} tokens of alignment, by {tokenizer}"
    if tokens < bounds.at_least:
        yield _failure(case, ("expect", "tokens", "at_least"), f"at least {bounds.at_least}", found)
    if bounds.at_most is not None and tokens > bounds.at_most:
        yield _failure(case, ("expect", "tokens", "at_most"), f"at most {bounds.at_most}", found)


def _answer_failures(case: Case, expected: AnswerExpectation, answer: str) -> Iterator[Failure]:
    place, folded = ("expect", "answer"), answer.casefold()
    if expected.refuses is not None and refuses(answer) != expected.refuses:
        yield _failure(case, (*place, "refuses"), "a refusal" if expected.refuses else "an answer to it", answer)
    for index, text in enumerate(expected.contains):
        if text.casefold() not in folded:
            yield _failure(case, (*place, "contains", index), text, answer)
    for index, text in enumerate(expected.lacks):
        if text.casefold() in folded:
            yield _failure(case, (*place, "lacks", index), f"not {text}", answer)
    if expected.json_schema is not None and (fault := _schema_fault(expected.json_schema, answer)):
        yield _failure(case, (*place, "json_schema"), "JSON of the schema", f"{fault}, in: {answer}")


def _schema_fault(schema: Mapping[str, Any], answer: str) -> str:
    try:
        value = orjson.loads(answer)
    except ValueError as error:
        return f"no JSON: {error}"
    fault = next(iter(Draft202012Validator(schema).iter_errors(value)), None)
    return fault.message if fault else ""


def _failure(case: Case, place: Place, expected: str, found: str) -> Failure:
    named = ".".join(str(part) for part in place if isinstance(part, str) and part != "expect")
    return Failure(case.document.shown, case.line_of(*place), named, expected, found)
