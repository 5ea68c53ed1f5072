import time
from pathlib import Path

import pytest

from server.core.errors import Finding, PromptFilesError
from server.core.types import Exchange, Rendering
from server.rendering.context import check_template, render
from server.rendering.environment import compile_template
from server.rendering.sanitise import Sanitiser
from tests.conftest import PROMPTS
from tests.rendering.builders import SELECTION, make_profile

EXCHANGE = Exchange("a message", "an answer")


def rendered(source: str, **fields: object) -> str:
    template, profile = compile_template(source, "t.jinja"), make_profile(Rendering.CHAT)
    arguments = {"demonstrations": [EXCHANGE] * 2, "system": "s", "exchanges": [EXCHANGE] * 2, **fields}
    return render(template, profile, SELECTION, Sanitiser(), **arguments)  # type: ignore[arg-type]  # by name


def findings_of(source: str) -> tuple[Finding, ...]:
    """What is found when `source` is loaded, in bounded time."""
    started = time.monotonic()
    with pytest.raises(PromptFilesError) as caught:
        check_template(make_profile(Rendering.CHAT), compile_template(source, "templates/chat.jinja"))
    assert time.monotonic() - started < 2
    assert {finding.path for finding in caught.value.findings} == {"templates/chat.jinja"}
    assert all(finding.mend for finding in caught.value.findings)
    return caught.value.findings


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a\n{% if %}", 2, "Expected an expression"),
        ("a\n{{ missing }}", 2, "unknown variable missing"),
        ("{% for item in principles %}{{ item.text }}{% endfor %}{{ item.text }}", 1, "unknown variable item"),
        ("a\n{% for item in demonstrations %}\n{{ item.nothing }}\n{% endfor %}", 3, "no attribute 'nothing'"),
        (" \n{# only a remark #}", 0, "writes nothing"),
        ("\n", 0, "is empty"),
        ("x" * 70_000, 0, "longer than 65536"),
    ],
)
def test_a_bad_template_is_found_at_its_line_when_it_is_loaded(source: str, line: int, words: str) -> None:
    finding = findings_of(source)[0]
    assert finding.line == line
    assert words in finding.message


@pytest.mark.parametrize(
    "field", ["principles[0].text", "retrieved_principles[0].id", "demonstrations[0].user", "exchanges[0].assistant"]
)
def test_what_fails_without_a_part_is_found_when_it_is_loaded(field: str) -> None:
    (finding,) = findings_of(f"{{{{ fence }}}}\n{{{{ {field} }}}}")
    assert finding.message == f"list object has no element 0, where a request has no {field.partition('[')[0]}"
    assert finding.line == 2


def test_all_faults_of_a_template_are_found_at_once() -> None:
    findings = findings_of("{{ a }}\n{{ 'x' * 2 }}\n{% set b = 1 %}")
    assert [finding.line for finding in findings] == [1, 2, 3]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ system.__class__.__mro__ }}", "__mro__"),
        ("{{ system['__class__'] }}", "__class__"),
        ("{{ ''.format }}", "no attribute 'format'"),
        ("{% for p in principles %}{{ p.items }}{% endfor %}", "no attribute 'items'"),
        ("{{ principles | map(attribute='__class__') | join }}", "no attribute '__class__'"),
        ("{{ system | attr('upper') }}", "the filter attr"),
        ("{{ ''.format(system) }}", "a call"),
        ("{% for p in principles %}{{ loop.cycle(1, 2) }}{% endfor %}", "a call"),
        ("{% for p in principles %}{{ loop.cycle }}{% endfor %}", "no attribute 'cycle'"),
        ("{% for p in principles %}{{ loop }}{% endfor %}", "LoopContext"),
        ("{{ range(10 ** 9) }}", "a call"),
        ("{{ self }}", "unknown variable self"),
        ("{{ 'secret' | pprint }}", "the filter pprint"),
        ("{{ principles }}", "a list would be written"),
        ("{{ principles | map(attribute='text') }}", "a generator would be written"),
        ("{{ none }}", "a NoneType would be written"),
    ],
)
def test_nothing_but_the_fields_of_prompts_is_reached(source: str, words: str) -> None:
    assert any(words in finding.message for finding in findings_of(source))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ 'x' * 10 ** 9 }}", "computes with *"),
        ("{{ 10 ** 10 ** 8 }}", "computes with **"),
        ("{{ '%1000000000s' % 1 }}", "computes with %"),
        ("{{ 1 / 0 }}", "computes with /"),
        ("{{ 7 // 2 }}", "computes with //"),
        ("{{ fence | center(10 ** 9) }}", "the filter center"),
        ("{{ fence | indent(10000000) }}", "the filter indent"),
        ("{{ fence | replace('~', question) }}", "the filter replace"),
        ("{{ principles | map('center', 1000000000) | join }}", "map without attribute="),
        ("{{ principles | batch(1) }}", "the filter batch"),
        ("{{ demonstrations | join(question) }}", "computed or long"),
        (f"{{{{ demonstrations | join('{'x' * 101}') }}}}", "computed or long"),
        ("{{ fence | join('xxxx') | join('xxxx') | join('xxxx') }}", "joined already"),
        ("{{ principles | join(*exchanges) }}", "spreads"),
        ("{% for a in fence * 10000000 %}{% endfor %}", "computes with *"),
        ("{% for a in exchanges %}{% for b in exchanges %}x{% endfor %}{% endfor %}", "over something else"),
        ("{% for a in exchanges %}{% for b in [a, a, a] %}x{% endfor %}{% endfor %}", "over something else"),
        ("{% for a in exchanges %}{% for b in a.x | default([a, a]) %}x{% endfor %}{% endfor %}", "something else"),
        ("{% for a in exchanges %}{% for b in a %}{% for c in a %}x{% endfor %}{% endfor %}{% endfor %}", "else"),
        ("{% for a in exchanges %}{{ question | upper | length }}{% endfor %}", "computes with question"),
        ("{% for a in exchanges %}{{ exchanges | length }}{% endfor %}", "computes with exchanges"),
        ("{% for a in exchanges %}{% if a.user in question %}x{% endif %}{% endfor %}", "computes with question"),
        ("{% for a in exchanges %}{{ question[1:] }}{% endfor %}", "computes with question"),
        ("{% for a in exchanges recursive %}{{ loop(exchanges) }}{% endfor %}", "recursively"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% macro %}"),
        ("{% call m() %}{% endcall %}", "{% call %}"),
        ("{% set a = fence ~ fence %}{% set a = a ~ a %}", "{% set %}"),
        ("{% set a %}x{% endset %}", "{% set %}"),
        ("{% with a = 1 %}{% endwith %}", "{% with %}"),
        ("{% filter upper %}x{% endfilter %}", "{% filter %}"),
        ("{% include '/etc/passwd' %}", "{% include %}"),
        ("{% import 'os' as os %}", "{% import %}"),
        ("{% from 'os' import path %}", "{% from %}"),
        ("{% extends 'x' %}", "{% extends %}"),
        ("{% block x %}{% endblock %}", "{% block %}"),
        ("{% autoescape true %}x{% endautoescape %}", "{% autoescape %}"),
        ("{{ {'a': 1} }}", "a literal {}"),
        ("{{ system is callable }}", "the test callable"),
        (f"{{{{ {'(' * 5000}1{')' * 5000} }}}}", "nested too deeply"),
        (f"{{{{ {' + '.join(['system'] * 5000)} }}}}", "more than 100 parts"),
        (f"{{{{ system{'.a' * 20_000} }}}}", "more than 100 parts"),
        ("{% if system %}" * 2000 + "{% endif %}" * 2000, "nested"),
        (f"{{{{ {'1' * 5000} }}}}", "integer"),
        ("{{ system | truncate(1) }}", "expected length"),
        ("{{ none[1:] }}", "not subscriptable"),
        ("{{ 1 is divisibleby 0 }}", "modulo"),
    ],
)
def test_what_could_take_all_time_or_memory_is_refused(source: str, words: str) -> None:
    assert any(words in finding.message for finding in findings_of(source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for p in principles %}{{ p.text }}{% endfor %}{{ system }}", "Be kind.Be clear.s"),
        ("{{ principles | map(attribute='text') | join(', ') }}", "Be kind., Be clear."),
        ("{{ (principles + retrieved_principles) | map(attribute='id') | join(' ') }}", "kind clear sums"),
        ("{{ principles | selectattr('id', 'ne', 'kind') | map(attribute='text') | first }}", "Be clear."),
        ("{% for p in principles %}{{ loop.index + 1 }}{{ ', ' if not loop.last else '.' }}{% endfor %}", "2, 3."),
        ("{% for p in principles if p.id != 'kind' %}{{ p.id }}{% else %}none{% endfor %}", "clear"),
        ("{% for _, ps in principles | groupby('aspect') %}{% for p in ps %}{{ p.id }} {% endfor %}{% endfor %}", ""),
        (
            "{% for p in principles %}{{ fence }}{% if demonstrations and system %}+{% endif %}{% endfor %}",
            "~~~~+~~~~+",
        ),
        ("{{ system ~ '!' if system else '' }}{{ question | default('-') }}", "s!"),
        ("{% for d in demonstrations[:1] %}{{ d['user'] | upper | trim }}{% endfor %}", "A MESSAGE"),
        ("{{ demonstrations | length }}{% if principles[0].scope is defined %}!{% endif %}", "2!"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
    ],
)
def test_what_templates_need_is_there(source: str, expected: str) -> None:
    expected = expected or "kind clear "
    assert rendered(source) == rendered(source) == expected


def test_output_is_bounded_by_what_is_given() -> None:
    source = "{% for e in exchanges %}{{ question }}{{ system }}{% endfor %}"
    assert len(rendered(source, question="q" * 1000)) == 2002
    with pytest.raises(PromptFilesError, match="more than 8 times"):
        rendered(source, question="q" * 10_000, exchanges=[EXCHANGE] * 1000)


def test_a_long_history_of_short_turns_is_not_too_much() -> None:
    source = (PROMPTS / "templates" / "completion.jinja").read_text("utf-8")
    assert rendered(source, exchanges=[Exchange("a", "b")] * 10_000, question="c").count("# Query:") == 10_004


@pytest.mark.parametrize("path", sorted((PROMPTS / "templates").iterdir()), ids=lambda path: path.stem)
def test_shipped_templates_pass(path: Path) -> None:
    check_template(make_profile(Rendering.CHAT), compile_template(path.read_text("utf-8"), path.name))
