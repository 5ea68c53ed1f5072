"""Asks an icalign server over httpx, be it one that runs elsewhere or an application of this process.

What is measured is what clients get: nothing here knows how answers come about.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import anyio
import httpx

from server.core.errors import EngineError, EngineUnavailableError
from server.core.types import Body
from server.evaluation.arms import Arm
from server.evaluation.datasets import Message
from server.evaluation.measures.base import Answer, Applied, LogProb

CHAT = "/v1/chat/completions"
_COMPLETIONS = "/v1/completions"
_RENDER = "/v1/alignment/render"
_TOKENIZE = "/tokenize"
_RETRIED = frozenset({429, 502, 503})
_NUM_TRIES = 5
_SHOWN_CHARS = 300
_NO_LOGPROBS = (
    "likelihood needs an engine that has vLLM's /tokenize and prompt_logprobs, as vLLM itself; this one does not"
)


class HttpSession:
    """Asks `model` at the servers of `clients`, by the host that arms name.

    What fails in a way that may pass is tried again, `retry_s` later and each time twice as late, five times in all.
    With `salts_cache`, which takes vLLM, no arm finds in the engine's prefix cache what another one left there.
    """

    def __init__(
        self,
        clients: Mapping[str | None, httpx.AsyncClient],
        model: str,
        *,
        retry_s: float = 1.0,
        salts_cache: bool = False,
    ) -> None:
        self._clients = clients
        self.model = model
        self._retry_s = retry_s
        self._salts_cache = salts_cache

    async def chat(self, arm: Arm, messages: Sequence[Message], **body: Any) -> Answer:
        """See Session."""
        salt = {"cache_salt": arm.id} if self._salts_cache else {}
        wanted = {**self._chat_body(arm, messages), "temperature": 0, **salt, **body}
        wanted["alignment"] = {**wanted["alignment"], "trace": True}
        answer, latency_ms = await self._post(arm, CHAT, wanted)
        try:
            return _answer(answer, latency_ms)
        except (LookupError, TypeError, AttributeError) as error:
            raise EngineError(f"{CHAT} gave no chat completion: {str(answer)[:_SHOWN_CHARS]}") from error

    async def logprob(self, arm: Arm, messages: Sequence[Message], continuation: str) -> LogProb:
        """See Session. The continuation is tokenised by itself, as a model that writes it after the prompt would.

        It is the whole answer, so that an opening has no place before it.
        """
        rendered = await self.render(arm, messages)
        prompt = await self._tokenize(arm, {"add_generation_prompt": True, **_without_opening(rendered)})
        following = await self._tokenize(arm, {"prompt": continuation, "add_special_tokens": False})
        asked = {"prompt": [*prompt, *following], "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        body = {"model": self.model, **asked, "alignment": {"profile": "off"}}
        answer, latency_ms = await self._post(arm, _COMPLETIONS, body)
        return LogProb(_sum(answer, prompt, following), len(following), _applied(rendered), latency_ms)

    async def render(self, arm: Arm, messages: Sequence[Message]) -> Body:
        """What the engine would get under `arm`, with the trace of how it came about. Raises EngineError."""
        rendered, _ = await self._post(arm, _RENDER, self._chat_body(arm, messages))
        return rendered

    def _chat_body(self, arm: Arm, messages: Sequence[Message]) -> Body:
        turns = [asdict(message) for message in messages]
        return {"model": self.model, "messages": turns, "alignment": {"profile": arm.profile}}

    async def _tokenize(self, arm: Arm, body: Body) -> list[int]:
        try:
            answer, _ = await self._post(arm, _TOKENIZE, {**body, "model": self.model})
        except EngineUnavailableError:
            raise
        except EngineError as error:
            raise EngineError(f"{_NO_LOGPROBS}: {error}") from error
        tokens = answer.get("tokens")
        if not isinstance(tokens, list):
            raise EngineError(f"{_NO_LOGPROBS}: {_TOKENIZE} gave {str(answer)[:_SHOWN_CHARS]}")
        return tokens

    async def _post(self, arm: Arm, path: str, body: Body) -> tuple[Body, float]:
        """The answer, and how many milliseconds its last try took. Raises EngineError with what the server said."""
        for attempt in range(_NUM_TRIES):
            started_s = time.perf_counter()
            try:
                response = await self._clients[arm.host].post(path, json=body)
            except httpx.TransportError as error:
                fault = EngineUnavailableError(f"{path}: {type(error).__name__}: {error}")
            else:
                if response.status_code == httpx.codes.OK:
                    return _object(path, response), (time.perf_counter() - started_s) * 1000
                said = response.text[:_SHOWN_CHARS]
                if response.status_code not in _RETRIED:
                    raise EngineError(f"{path} answered {response.status_code}: {said}")
                fault = EngineUnavailableError(f"{path} answered {response.status_code}: {said}")
            if attempt < _NUM_TRIES - 1:
                await anyio.sleep(self._retry_s * 2**attempt)
        raise fault


async def first_model(client: httpx.AsyncClient) -> str:
    """The first model that the server lists, which is without a profile's name. Raises EngineError."""
    try:
        return str((await _get(client, "/v1/models"))["data"][0]["id"])
    except (LookupError, TypeError) as error:
        raise EngineError(f"The server at {client.base_url} lists no models.") from error


async def default_profile_at(client: httpx.AsyncClient) -> str:
    """The profile of requests that name none. Raises EngineError where it is no icalign server."""
    try:
        return str((await _get(client, "/v1/alignment/profiles"))["default"])
    except LookupError as error:
        raise EngineError(f"The server at {client.base_url} is no icalign server.") from error


async def _get(client: httpx.AsyncClient, path: str) -> Body:
    try:
        response = await client.get(path)
    except httpx.TransportError as error:
        raise EngineUnavailableError(f"{client.base_url} cannot be reached: {error}") from error
    if response.status_code != httpx.codes.OK:
        raise EngineError(f"{client.base_url}{path} answered {response.status_code}: {response.text[:_SHOWN_CHARS]}")
    return _object(path, response)


def _object(path: str, response: httpx.Response) -> Body:
    try:
        answer = response.json()
    except ValueError as error:
        raise EngineError(f"{path} answered what is no JSON: {response.text[:_SHOWN_CHARS]}") from error
    if not isinstance(answer, dict):
        raise EngineError(f"{path} answered what is no object: {response.text[:_SHOWN_CHARS]}")
    return answer


def _without_opening(rendered: Body) -> Body:
    """The body that was rendered, without the words by which its profile begins the answer."""
    body: Body = rendered["body"]
    opening = rendered.get("opening")
    if not opening:
        return body
    if "prompt" in body:
        return {**body, "prompt": body["prompt"].removesuffix(opening)}
    return {**body, "messages": body["messages"][:-1], "add_generation_prompt": True, "continue_final_message": False}


def _answer(answer: Body, latency_ms: float) -> Answer:
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    return Answer(
        text=choice["message"].get("content") or "",
        finish_reason=choice.get("finish_reason"),
        applied=_applied(answer.get("alignment") or {}),
        prompt_tokens=usage.get("prompt_tokens"),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        latency_ms=latency_ms,
    )


def _applied(trace: Body) -> Applied:
    """From the trace of one conversation."""
    retrieved = [item["id"] for item in trace.get("demonstrations", ())]
    principles = [item["id"] for item in trace.get("retrieved_principles", ())]
    return Applied(
        profile=f"{trace['profile']}@{trace['version']}" if "profile" in trace else "",
        route=trace.get("route"),
        risk=trace.get("risk"),
        chosen=(*trace.get("pinned_demonstrations", ()), *retrieved),
        principles=(*trace.get("principles", ()), *principles),
        tokens=trace.get("tokens", {}),
        aligning_ms=trace.get("timings_ms", {}).get("aligned"),
    )


def _sum(answer: Body, prompt: Sequence[int], following: Sequence[int]) -> float:
    """Of the log probabilities of `following`, which vLLM gives by position and token id."""
    try:
        positions = answer["choices"][0]["prompt_logprobs"][len(prompt) :]
        found = zip(positions, following, strict=True)
        return float(sum(position[str(token)]["logprob"] for position, token in found))
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError(_NO_LOGPROBS) from error
