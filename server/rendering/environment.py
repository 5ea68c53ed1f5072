"""Jinja for prompt templates: sandboxed, strict about undefined names, without globals, and byte-stable."""

import traceback
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
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
        tree = environment.parse(source)
        if unknown := meta.find_undeclared_variables(tree) - VARIABLES:
            raise PromptFilesError([_unknown(name, tree, shown) for name in sorted(unknown)])
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        mend = "correct the Jinja at this line"
        raise PromptFilesError([Finding(shown, error.lineno, "", str(error.message), mend)]) from error
    except TemplateError as error:
        raise PromptFilesError([Finding(shown, 0, "", str(error))]) from error


def variables_of(source: str) -> frozenset[str]:
    """What the template `source` names of VARIABLES. Raises jinja2's TemplateError for bad syntax."""
    return VARIABLES & meta.find_undeclared_variables(_environment().parse(source))


def line_of(error: BaseException, template: Template) -> int:
    """The line of `template`, from 1, where rendering it raised `error`; 0 where it was not there."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == (template.filename or "<template>")]
    return next((line for line in reversed(lines) if line), 0)


def _unknown(name: str, tree: nodes.Template, shown: str) -> Finding:
    line = min((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), default=0)
    message = f"names the unknown variable {name}; there are {', '.join(sorted(VARIABLES))}"
    return Finding(shown, line, "", message, "use one of these, or take it out")


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    # Prompts are plain text for a model, never HTML, so nothing is escaped as HTML.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.globals.clear()
    return environment
