"""Jinja for prompt templates: sandboxed, strict about undefined names, without globals, and byte-stable."""

from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.core.errors import Finding, PromptFilesError

VARIABLES = frozenset(
    {"principles", "retrieved_principles", "demonstrations", "system", "exchanges", "question", "fence"}
)
"""What a template may name; prompts are data, so nothing else reaches it."""


def compile_template(source: str, shown: str) -> Template:
    """Compile `source`, which findings call `shown`. Raises PromptFilesError for bad syntax and unknown variables."""
    environment = _environment()
    try:
        unknown = meta.find_undeclared_variables(environment.parse(source)) - VARIABLES
        if unknown:
            names = ", ".join(sorted(unknown))
            known = ", ".join(sorted(VARIABLES))
            raise PromptFilesError([Finding(shown, 0, "", f"names unknown variables: {names}; there are {known}")])
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise PromptFilesError([Finding(shown, error.lineno, "", str(error.message))]) from error
    except TemplateError as error:
        raise PromptFilesError([Finding(shown, 0, "", str(error))]) from error


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    # Prompts are plain text for a model, never HTML, so nothing is escaped as HTML.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.globals.clear()
    return environment
