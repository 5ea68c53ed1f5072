"""How commands speak: results to standard output, for people or as JSON; remarks and faults to standard error."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import orjson
from rich.console import Console

from server.core.errors import IcalignError

FAULTY = 2
"""Exit code where a command could not do what it was asked; 1 is for what it found wrong."""

P = ParamSpec("P")


def console() -> Console:
    """For people: in colour on a terminal, plain where the output goes into a file or a pipe."""
    return Console(soft_wrap=True, highlight=False)


def write_json(value: Any) -> None:
    """For machines: one JSON value."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(value, default=list, option=options).decode() + "\n")


def remark(message: str) -> None:
    """Something to know beside the result."""
    sys.stderr.write(f"{message}\n")


def fail(error: Any) -> NoReturn:
    """Say why it cannot be done, and exit."""
    for line in str(error).splitlines():
        remark(f"icalign: {line}")
    raise SystemExit(FAULTY)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """`function` with faults told in a line each, as every command tells them."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except IcalignError as error:
            fail(error)

    return guarded
