"""Jinja for prompt templates: sandboxed, strict about undefined names, without globals, and byte-stable.

What a template may hold at all is in grammar.py.
"""

import traceback
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateRuntimeError, TemplateSyntaxError, Undefined, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.core.errors import Finding, PromptFilesError
from server.rendering.grammar import FILTERS, MAX_CHARS, TESTS, VARIABLES, check_tree

_LOOP = frozenset({"first", "last", "index", "index0", "revindex", "revindex0", "length", "previtem", "nextitem"})
_TOO_DEEP = "is nested too deeply"
_MEND_SYNTAX = "correct the Jinja at this line"


def compile_template(source: str, shown: str) -> Template:
    """Compile `source`, which findings call `shown`. Raises PromptFilesError for all that a template may not hold."""
    if findings := _check_length(source, shown):
        raise PromptFilesError(findings)
    environment = _environment()
    try:
        tree = environment.parse(source)
        if findings := check_tree(tree, shown):
            raise PromptFilesError(findings)
        return environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise PromptFilesError([Finding(shown, error.lineno, "", str(error.message), _MEND_SYNTAX)]) from error
    except (TemplateError, ValueError, SyntaxError) as error:  # Python's own, of the code that Jinja makes
        raise PromptFilesError([Finding(shown, 0, "", str(error), "correct the Jinja")]) from error
    except RecursionError as error:
        raise PromptFilesError([Finding(shown, 0, "", _TOO_DEEP, "take levels out")]) from error


def variables_of(source: str) -> frozenset[str]:
    """What the template `source` names of VARIABLES. Raises jinja2's TemplateError for bad syntax."""
    # Jinja's own way of finding them would compute constant expressions, however large.
    return VARIABLES & {node.name for node in _environment().parse(source).find_all(nodes.Name)}


def line_of(error: BaseException, template: Template) -> int:
    """The line of `template`, from 1, where rendering it raised `error`; 0 where it was not there."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == (template.filename or "<template>")]
    return next((line for line in reversed(lines) if line), 0)


def _check_length(source: str, shown: str) -> list[Finding]:
    if len(source) > MAX_CHARS:
        return [Finding(shown, 0, "", f"is longer than {MAX_CHARS} characters", "keep texts in the other files")]
    return [] if source.strip() else [Finding(shown, 0, "", "is empty", "write the prompt's text")]


class _Environment(ImmutableSandboxedEnvironment):
    """Reaches entries of mappings and lists, and what a loop says of itself; no attribute of any other object."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """What `obj.attribute` means."""
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """What `obj[argument]` means."""
        if isinstance(obj, LoopContext):
            return getattr(obj, argument) if argument in _LOOP else self.undefined(obj=obj, name=argument)
        try:
            return obj[argument] if isinstance(obj, dict | list | tuple | str) else self._missing(obj, argument)
        except (LookupError, TypeError):
            return self._missing(obj, argument)

    def _missing(self, obj: Any, argument: Any) -> Any:
        # Of an undefined value nothing is there either, and what was undefined first is what shows.
        return obj[argument] if isinstance(obj, Undefined) else self.undefined(obj=obj, name=argument)


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    # Prompts are plain text for a model, never HTML, so nothing is escaped as HTML.
    environment = _Environment(
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        finalize=_written,
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.tests = {name: environment.tests[name] for name in TESTS}
    return environment


def _written(value: Any) -> Any:
    """`value`, as an expression's result. Raises TemplateRuntimeError for what is no text and would show as Python."""
    if isinstance(value, str | int | float | Undefined):
        return value
    raise TemplateRuntimeError(f"a {type(value).__name__} would be written; loop over it, join it, or name its text")
