"""Who asks: the request's headers, and what its key allows."""

from fastapi import Request

from server.core.types import Caller

PROFILES_KEY = "alignment_profiles"
"""Where the ASGI scope of a request holds the profiles its key is bound to, on a server that has keys."""
_CREDENTIALS = frozenset({"authorization", "x-api-key"})


def read_caller(request: Request) -> Caller:
    """The caller. A header given several times has all its values, joined by commas.

    A key that is sent to a server which has keys is this server's, not the engine's, and stays here.
    """
    is_admitted = PROFILES_KEY in request.scope
    names = [name for name in request.headers if not (is_admitted and name in _CREDENTIALS)]
    headers = {name: ", ".join(request.headers.getlist(name)) for name in names}
    return Caller(headers, request.scope.get(PROFILES_KEY))
