"""Everything that can go wrong on purpose. Classes carry facts; api/errors.py says what each means in HTTP.

IcalignError
├── ConfigurationError          the server cannot start as configured
│   └── PromptFilesError        files under prompts/ are wrong; carries every finding
├── RequestError                the client can mend it; carries the field at fault
│   ├── InvalidRequestError
│   ├── UnknownModelError
│   ├── UnknownProfileError
│   ├── OverrideError
│   ├── UnauthorizedError       no key of this server's
│   ├── ForbiddenError          a key that does not allow this
│   ├── BodyTooLargeError
│   └── MediaTypeError
├── BusyError                   more requests at once than the server takes
├── DrainingError               the server starts or stops
└── EngineError                 the engine cannot answer
    ├── EngineStartError
    ├── EngineUnavailableError
    ├── EngineTimeoutError
    └── NotOfferedError         this engine has no such endpoint
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


class IcalignError(Exception):
    """Base of the tree."""


class ConfigurationError(IcalignError):
    """A setting is wrong; the message names it and the mend."""


@dataclass(frozen=True)
class Finding:
    """One fault in a prompt file: where it is and what is wrong. `line` counts from 1; 0 means the whole file.

    A warning does not keep the files from being served. `rule` names the check and `mend` says what to do, where the
    message alone does not.
    """

    path: str
    line: int
    field: str
    message: str
    mend: str = ""
    rule: str = "valid"
    severity: Literal["error", "warning"] = "error"

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
    """No profile of that id is loaded, or not in that version."""

    def __init__(self, profile: str, known: Sequence[str], *, param: str) -> None:
        super().__init__(f"There is no profile {profile!r}. Known are: {', '.join(known)}.", param=param)
        self.profile = profile


class OverrideError(RequestError):
    """The request overrides what its profile does not declare overridable."""


class UnauthorizedError(RequestError):
    """The request carries no key, or one that this server does not know."""


class ForbiddenError(RequestError):
    """The request's key does not allow what it asks for."""


class BodyTooLargeError(RequestError):
    """The body is larger than `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body is larger than {limit_bytes} bytes, the most that this server takes.")
        self.limit_bytes = limit_bytes


class MediaTypeError(RequestError):
    """The body is not declared to be JSON."""

    def __init__(self, found: str) -> None:
        super().__init__(f"The content type is {found!r}; send JSON, with Content-Type: application/json.")
        self.found = found


class BusyError(IcalignError):
    """As many requests are being answered as the server takes at once."""


class DrainingError(IcalignError):
    """The server is starting or stopping, and takes no new requests."""


class EngineError(IcalignError):
    """The engine is at fault, not the request."""


class EngineStartError(EngineError):
    """The engine did not come up."""


class EngineUnavailableError(EngineError):
    """The engine cannot be reached, died, or has not started yet."""


class EngineTimeoutError(EngineError):
    """The engine took longer than the configured time."""


class NotOfferedError(EngineError):
    """The engine has no such endpoint, or none that could be aligned as the request's profile asks."""

    def __init__(self, path: str, *, profile: str | None = None) -> None:
        why = f"cannot be aligned, as profile {profile!r} asks" if profile else "is not offered by this engine"
        super().__init__(f"{path} {why}.")
        self.path = path
