"""Asks an icalign server for the answers that prompt tests expect something of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
import httpx

from server.authoring.prompt_tests import Case
from server.core.errors import EngineError
from server.core.types import Body
from server.rendering.forms.chat import ChatForm

_AT_ONCE = 4
# Answers that can be compared from run to run, unless a test asks otherwise.
_DEFAULTS: Body = {"temperature": 0, "max_tokens": 256}


@dataclass(frozen=True)
class Answer:
    """What a server said, or why it did not; `profile` is what it applied, as `id@version`."""

    text: str
    fault: str
    profile: str


async def ask_all(client: httpx.AsyncClient, cases: Sequence[Case]) -> Mapping[str, Answer]:
    """The answer to each case by its name. Raises EngineError where the server cannot be used at all."""
    model = await _first_model(client)
    answers: dict[str, Answer] = {}
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(case: Case) -> None:
        async with limiter:
            answers[case.name] = await _ask(client, {**_DEFAULTS, **case.body, "model": model})

    async with anyio.create_task_group() as tasks:
        for case in cases:
            tasks.start_soon(ask, case)
    return answers


async def _first_model(client: httpx.AsyncClient) -> str:
    try:
        response = await client.get("/v1/models")
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise EngineError(f"The server at {client.base_url} does not list its models: {error}") from error


async def _ask(client: httpx.AsyncClient, body: Body) -> Answer:
    try:
        response = await client.post(ChatForm.path, json=body)
        profile = response.headers.get("x-alignment-profile", "")
        if response.status_code != 200:
            return Answer("", f"status {response.status_code}: {response.text}", profile)
        return Answer(response.json()["choices"][0]["message"]["content"] or "", "", profile)
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return Answer("", f"{type(error).__name__}: {error}", "")
