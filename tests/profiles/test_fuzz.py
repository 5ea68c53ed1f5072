"""Broken and hostile prompt files: each loads or gives findings; nothing else comes out, and soon.

`make fuzz` tries more of them than the tests do.
"""

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from shutil import copytree

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.core.errors import Finding, PromptFilesError
from server.core.types import Profile, Rendering
from server.profiles.folder import FolderReader
from server.profiles.store import ProfileStore
from server.rendering.context import check_template
from server.rendering.environment import compile_template
from tests.conftest import PROMPTS
from tests.rendering.builders import make_profile

NUM_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
LONGEST_S = 3.0
FILES = sorted(str(path.relative_to(PROMPTS)) for path in PROMPTS.glob("*/*.*"))
FUZZ = settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,  # a machine that does other things too is slow now and then; a hang is found by LONGEST_S
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = ["\x00", "\x07", "\x1b[31m", "\u2028", "\ufeff", "\u202e", "\u200b", "\U0001f9d1\u200d\U0001f33e", "e\u0301" * 40]
ODD += ["\\ud800", '"\\ud800"', "&a *a", "!!python/object:os.system", "<<: *x", "? :", "- " * 60, "[" * 200, "{" * 200]
ODD += [
    "1e999",
    ".nan",
    "-.inf",
    "9" * 400,
    "0x" + "f" * 80,
    "1:" * 300,
    "2001-99-99",
    "~",
    "=",
    "|",
    ">-",
    "\t",
    "%YAML",
]
ODD += [
    "\n---\n",
    "\n...\n",
    "extends: default\n",
    "id: off\n",
    "null",
    "x" * 50_000,
    "{{",
    "%}",
    "{#",
    "{% raw %}",
    "''",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copytree(PROMPTS, tmp_path_factory.mktemp("fuzz") / "prompts")


@pytest.fixture(scope="module")
def store(folder: Path) -> ProfileStore:
    """Parses only what changes, so that each try is quick."""
    return ProfileStore(folder)


@contextmanager
def bounded() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < LONGEST_S


def check_findings(findings: tuple[Finding, ...]) -> None:
    """Raise unless an editor can make something of them."""
    assert findings
    for finding in findings:
        assert finding.path
        assert finding.line >= 0
        assert 0 < len(finding.message) < 2000, finding.message
        assert len(finding.field) < 500, finding.field


def try_to_load(store: ProfileStore) -> tuple[Mapping[str, Profile], tuple[Finding, ...]]:
    try:
        return store.load(), ()
    except PromptFilesError as error:
        check_findings(error.findings)
        return {}, error.findings


def check_source(source: str) -> None:
    """Raise unless the template can be used, or there are findings."""
    with bounded():
        try:
            check_template(make_profile(Rendering.CHAT), compile_template(source, "templates/t.jinja"))
        except PromptFilesError as error:
            check_findings(error.findings)


def check_store(store: ProfileStore) -> None:
    """Raise unless what `store` has now can be used, or there are findings."""
    with bounded():
        profiles, _ = try_to_load(store)
    for profile in profiles.values():
        if profile.rendering is not Rendering.NONE:
            check_source(profile.template)


def mutations(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to three faults."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(_MUTATIONS)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _lines(content: bytes, draw: random.Random, *, count: int, indent: bytes = b"") -> bytes:
    """One line `count` times over, or not at all, indented."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    return b"\n".join([*lines[:at], *[indent + lines[at]] * count, *lines[at + 1 :]])


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(ODD).encode() + content[at:]


def _replace_value(content: bytes, draw: random.Random) -> bytes:
    """What stands behind a colon by something else."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    key, colon, _ = lines[at].partition(b":")
    lines[at] = key + colon + b" " + draw.choice(ODD).encode()
    return b"\n".join(lines)


_MUTATIONS = (
    _flip,
    _cut,
    lambda content, draw: _lines(content, draw, count=0),
    lambda content, draw: _lines(content, draw, count=2),
    lambda content, draw: _lines(content, draw, count=1, indent=b" " * draw.randint(1, 4)),
    lambda content, draw: _lines(content, draw, count=1, indent=b"\t"),
    _insert,
    _replace_value,
)


@FUZZ
@given(name=st.sampled_from(FILES), draw=st.randoms(use_true_random=False))
def test_broken_files_load_or_give_findings(folder: Path, store: ProfileStore, name: str, draw: random.Random) -> None:
    path = folder / name
    path.write_bytes(mutations((PROMPTS / name).read_bytes(), draw))
    try:
        check_store(store)
    finally:
        path.write_bytes((PROMPTS / name).read_bytes())


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything_at_all_loads_or_gives_findings(tmp_path: Path, content: bytes) -> None:
    for kind, ending in (("constitutions", "yaml"), ("demonstrations", "jsonl"), ("profiles", "yaml")):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"x.{ending}").write_bytes(content)
    with bounded():
        check_findings(tuple(FolderReader(tmp_path).read().findings))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["extends", "rendering", "placement", "constitution", "template", "demonstrations", "pinned", "retrieval"]
FIELDS += [
    "scope",
    "sampling",
    "overridable",
    "shrinks",
    "aligns_completions",
    "description",
    "unknown",
    "openings",
    "reminders",
]


@FUZZ
@given(values=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
def test_profiles_of_any_values_load_or_give_findings(
    folder: Path, store: ProfileStore, values: dict[str, object]
) -> None:
    path = folder / "profiles" / "mine.yaml"
    text = yaml.safe_dump({"id": "mine", "description": "d", "extends": "default", **values}, allow_unicode=True)
    path.write_text(text, "utf-8", errors="surrogatepass")
    try:
        check_store(store)
    finally:
        path.unlink()


@FUZZ
@given(parents=st.lists(st.integers(0, 7) | st.none(), min_size=2, max_size=8))
def test_every_tangle_of_extends_is_undone_or_found(
    tmp_path_factory: pytest.TempPathFactory, parents: list[int | None]
) -> None:
    """A profile loads if following `extends` ends; else there are findings, none of a profile that is sound."""
    folder = tmp_path_factory.mktemp("tangle")
    (folder / "profiles").mkdir()
    for number, parent in enumerate(parents):
        extends = "" if parent is None else f"extends: p{parent}\n"
        text = f"id: p{number}\ndescription: d\nrendering: none\n{extends}"
        (folder / "profiles" / f"p{number}.yaml").write_text(text, "utf-8")
    sound = {f"profiles/p{number}.yaml" for number in range(len(parents)) if ends(parents, number)}
    profiles, findings = try_to_load(ProfileStore(folder))
    assert len(profiles) == (len(parents) if len(sound) == len(parents) else 0)
    assert bool(findings) == (len(sound) < len(parents))
    assert not sound & {finding.path for finding in findings}
    assert {finding.field for finding in findings} <= {"extends"}


def ends(parents: list[int | None], number: int) -> bool:
    seen: list[int] = []
    at: int | None = number
    while at is not None:
        if at in seen or at >= len(parents):
            return False
        seen.append(at)
        at = parents[at]
    return True


@pytest.mark.parametrize(
    "text",
    [
        "- " * 500_000,
        "[" * 500_000,
        "{a: " * 100_000,
        "? " * 100_000,
        "a: " + "1:" * 1_000_000 + "1",
        "a: " + "9" * 3_000_000,
        "a: 0b" + "1" * 3_000_000,
        "id: " + "x" * 5_000_000,
        "".join(f"k{number}: v\n" for number in range(100_000)),
        "a: |\n" + "  x\n" * 500_000,
        "a: &x [" + "*x, " * 1000 + "]",
        "# remark\n" * 500_000,
        '"' + "\\u2028" * 500_000 + '"',
        "%TAG ! tag:x\n" * 1000,
    ],
    ids=range(14),
)
def test_huge_files_are_read_or_refused_soon(tmp_path: Path, text: str) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "constitutions").mkdir()
    for kind in ("profiles", "constitutions"):
        (tmp_path / kind / "x.yaml").write_text(text, "utf-8")
    started = time.monotonic()
    with pytest.raises(PromptFilesError) as caught:
        ProfileStore(tmp_path).load()
    check_findings(caught.value.findings)
    assert time.monotonic() - started < 4 * LONGEST_S


# Templates

NAMES = [
    "principles",
    "demonstrations",
    "exchanges",
    "system",
    "question",
    "fence",
    "x",
    "y",
    "loop",
    "self",
    "namespace",
]
NAMES += ["range", "''", "'x'", "1", "10 ** 9", "[]", "(1, 2)", "none", "true", "1.5", "999999999"]
ATTRIBUTES = [
    "text",
    "scope",
    "__class__",
    "__init__",
    "__globals__",
    "mro",
    "format",
    "items",
    "user",
    "gi_frame",
    "0",
]
FILTERS = [
    "upper",
    "join",
    "join('xxxxxxxxxx')",
    "map(attribute='text')",
    "list",
    "attr('__class__')",
    "center(10 ** 9)",
]
FILTERS += ["items", "format(1)", "indent(9999999)", "batch(1)", "sort", "first", "default([1, 2, 3])", "groupby('x')"]
FILTERS += ["map('join', 'xxxx')", "replace('a', 'aaaa')", "truncate(1)", "selectattr('user')", "xmlattr", "tojson"]
OPERATORS = ["*", "**", "%", "//", "/", "+", "-", "~", "==", "in", "<", "and", "or", "is divisibleby"]


def expressions() -> st.SearchStrategy[str]:
    return st.recursive(
        st.sampled_from(NAMES),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(ATTRIBUTES)).map(".".join),
            st.tuples(inner, st.sampled_from(ATTRIBUTES)).map(lambda pair: f"{pair[0]}['{pair[1]}']"),
            st.tuples(inner, st.sampled_from(FILTERS)).map(" | ".join),
            st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda parts: f"({' '.join(parts)})"),
            st.tuples(inner, inner).map(lambda pair: f"{pair[0]}({pair[1]})"),
            st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
            st.tuples(inner, inner).map(lambda pair: f"{pair[0]}[{pair[1]}:]"),
        ),
        max_leaves=6,
    )


def statements() -> st.SearchStrategy[str]:
    return st.recursive(
        expressions().map(lambda text: f"{{{{ {text} }}}}") | st.sampled_from(["text", "{# r #}", "{% include 'x' %}"]),
        lambda inner: st.one_of(
            st.tuples(st.sampled_from("xy"), expressions(), inner).map(
                lambda parts: f"{{% for {parts[0]} in {parts[1]} %}}{parts[2]}{{% endfor %}}"
            ),
            st.tuples(expressions(), inner).map(lambda parts: f"{{% if {parts[0]} %}}{parts[1]}{{% endif %}}"),
            st.tuples(expressions(), inner).map(lambda parts: f"{{% set x = {parts[0]} %}}{parts[1]}"),
            inner.map(lambda text: f"{{% macro m() %}}{text}{{{{ m() }}}}{{% endmacro %}}{{{{ m() }}}}"),
            st.tuples(inner, inner).map("".join),
        ),
        max_leaves=5,
    )


@FUZZ
@given(statements())
def test_templates_load_or_give_findings(source: str) -> None:
    check_source(source)


@FUZZ
@given(st.text(alphabet="{}%#-+ ~|.[]()'\"abc019_\n*:=<>!", max_size=80).map(lambda text: f"{{{{ {text}"))
def test_anything_at_all_as_a_template_loads_or_gives_findings(source: str) -> None:
    check_source(source)


def test_shipped_templates_with_two_lines_swapped_load_or_give_findings() -> None:
    for path in sorted((PROMPTS / "templates").iterdir()):
        lines = path.read_text("utf-8").splitlines(keepends=True)
        for first, second in pairwise(range(len(lines))):
            swapped = [*lines[:first], lines[second], lines[first], *lines[second + 1 :]]
            check_source("".join(swapped))
