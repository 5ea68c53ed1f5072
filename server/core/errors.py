"""Everything that can go wrong on purpose. Classes carry facts; api/errors.py says what each means in HTTP.

IcalignError
├── ConfigurationError          the server cannot start as configured
│   └── PromptFilesError        files under prompts/ are wrong; carries every finding
├── RequestError                the client can mend it; carries the field at fault
│   ├── InvalidRequestError
│   ├── UnknownModelError
│   ├── UnknownProfileError
│   └── OverrideError
└── EngineError                 the engine cannot answer
    ├── EngineStartError
    ├── EngineUnavailableError
    ├── EngineTimeoutError
    └── NotOfferedError         this engine has no such endpoint
"""

from collections.abc import Sequence
from dataclasses import dataclass


class IcalignError(Exception):
    """Base of the tree."""


class ConfigurationError(IcalignError):
    """A setting is wrong; the message names it and the mend."""


@dataclass(frozen=True)
class Finding:
    """One fault in a prompt file: where it is and what is wrong. `line` counts from 1; 0 means the whole file."""

    path: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """`path:line: field: message`, the form editors jump to."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class PromptFilesError(ConfigurationError):
    """Prompt files do not fit their schema or each other."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class RequestError(IcalignError):
    """The request is at fault; `param` is the field to mend, in OpenAI's notation (`messages[0].role`)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequestError(RequestError):
    """A field has a wrong type or value, or the profile's rendering cannot carry it."""


class UnknownModelError(RequestError):
    """The engine lists no model of that name."""

    def __init__(self, model: str) -> None:
        super().__init__(f"There is no model {model!r}; GET /v1/models lists them.", param="model")
        self.model = model


class UnknownProfileError(RequestError):
    """No profile of that id is loaded."""

    def __init__(self, profile: str, known: Sequence[str], *, param: str) -> None:
        super().__init__(f"There is no profile {profile!r}. Known profiles: {', '.join(known)}.", param=param)
        self.profile = profile


class OverrideError(RequestError):
    """The request overrides what its profile does not declare overridable."""


class EngineError(IcalignError):
    """The engine is at fault, not the request."""


class EngineStartError(EngineError):
    """The engine did not come up."""


class EngineUnavailableError(EngineError):
    """The engine cannot be reached, died, or has not started yet."""


class EngineTimeoutError(EngineError):
    """The engine took longer than the configured time."""


class NotOfferedError(EngineError):
    """The engine behind this server has no such endpoint."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The engine behind this server does not offer {path}.")
        self.path = path
