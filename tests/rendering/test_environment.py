import pytest

from server.core.errors import ConfigurationError, PromptFilesError
from server.core.types import Rendering
from server.rendering.context import check_template, render
from server.rendering.environment import compile_template
from server.rendering.sanitise import Sanitiser
from tests.rendering.builders import SELECTION, make_profile


def rendered(source: str) -> str:
    template, profile = compile_template(source, "t.jinja"), make_profile(Rendering.CHAT)
    return render(template, profile, SELECTION, Sanitiser(), demonstrations=[], system="s")


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a\n{% if %}", 2, "Expected an expression"),
        ("a\n{{ missing }}", 2, "unknown variable missing"),
        ("{{ range(3) }}", 1, "unknown variable range"),
    ],
)
def test_a_bad_template_is_found_when_it_is_compiled(source: str, line: int, words: str) -> None:
    with pytest.raises(PromptFilesError) as caught:
        compile_template(source, "t.jinja")
    finding = caught.value.findings[0]
    assert (finding.path, finding.line) == ("t.jinja", line)
    assert words in finding.message


def test_what_fails_when_rendered_is_found_at_its_line() -> None:
    template = compile_template("a\n{% for item in demonstrations %}\n{{ item.nothing }}\n{% endfor %}", "t.jinja")
    with pytest.raises(PromptFilesError) as caught:
        check_template(make_profile(Rendering.CHAT), template)
    assert [(finding.path, finding.line) for finding in caught.value.findings] == [("templates/chat.jinja", 3)]


@pytest.mark.parametrize("source", ["{{ principles[0].nothing }}", "{{ system.__class__.__mro__ }}", "{{ 1 / 0 }}"])
def test_undefined_names_and_escapes_fail_loudly(source: str) -> None:
    with pytest.raises(ConfigurationError):
        rendered(source)


def test_rendering_is_byte_stable() -> None:
    source = "{% for p in principles %}{{ p.text }}{% endfor %}{{ system }}"
    assert rendered(source) == rendered(source) == "Be kind.Be clear.s"
