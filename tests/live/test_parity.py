"""Profile `off` against a stock vLLM server: the same requests, and every difference of their answers accounted for."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import httpx
import pytest

from tests.live.parity_requests import MODEL, REQUESTS, ParityRequest

# What differs between two answers of one server too, or says no more than the body does.
_UNCOMPARED_HEADERS = frozenset({"date", "content-length"})
_IDS = re.compile(
    r"\b(?:chatcmpl|chatcmpl-tool|cmpl|resp|msg|fc|rs|call|toolu|modelperm|generate-tokens)[-_][0-9a-f-]{16,}"
)
_TIMES = re.compile(r'("(?:created|created_at|completed_at)":\s*)\d+(?:\.\d+)?')
_ABSENT = "(absent)"
# A stream's reader that is slow, as on a busy machine, gets tokens joined into one chunk.
_ATTEMPTS = 3
_SHOWN_PARTS = 20


@dataclass(frozen=True)
class Accepted:
    """A difference that is known. Requests and parts are patterns of names; each such request differs in each part."""

    requests: str
    parts: str
    reason: str


ACCEPTED = (
    # Meant.
    Accepted("models", "body.data?0?.alignment.*", "shows the profile that is in force"),
    Accepted("models", "body.data?[1-9]?.*", "lists each model with each profile too"),
    Accepted("model", "status body.*", "OpenAI's API and its SDKs have this path; vLLM has not"),
    Accepted(
        "model-unknown root unknown-path* wrong-method-* options-chat responses-delete responses-list tokenizer-info "
        "embeddings* pooling score rerank transcription unreadable-deeper unreadable-deepest unreadable-not-utf-8 "
        "unreadable-very-huge-integer",
        "body.*",
        "errors have OpenAI's form here, where vLLM's have FastAPI's",
    ),
    Accepted("health", "header.content-type body*", "says so in JSON"),
    Accepted("openapi", "body.*", "describes icalign's own paths"),
    Accepted("docs redoc", "status header.content-type body*", "icalign shows no pages"),
    Accepted("kv-event-sources is-scaling abort-requests", "status body*", "for what steers many engines; here is one"),
    Accepted("*", "header.vary", "icalign has no answers for web pages of other origins; a gateway has"),
    Accepted(
        "preflight*", "status header.* body*", "icalign has no answers for web pages of other origins; a gateway has"
    ),
    Accepted("trailing-slash", "status header.location header.content-type body*", "a model without a name is unknown"),
)


@dataclass(frozen=True)
class Reply:
    """An answer by its parts: `status`, `header.NAME`, and the body's fields, or those of each event of a stream."""

    parts: Mapping[str, Any]
    text: str


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=120) as client:
        yield client


@pytest.mark.parametrize("request_", [pytest.param(request, id=request.name) for request in REQUESTS])
def test_profile_off_answers_like_stock_vllm(
    request_: ParityRequest, client: httpx.Client, stock_url: str, smollm2_url: str
) -> None:
    for _ in range(_ATTEMPTS):
        stock, ours = ask(client, stock_url, request_), ask(client, smollm2_url, request_, ours=True)
        different = differences(stock, ours)
        unexpected, missing = judge(request_.name, different)
        if not (unexpected or missing) or "events" not in stock.parts:
            break
    assert not unexpected, describe(request_, unexpected, different)
    assert not missing, f"no longer differs, so take it out of ACCEPTED: {missing}"


def test_every_accepted_difference_is_of_a_request() -> None:
    names = {request.name for request in REQUESTS}
    assert len(names) == len(REQUESTS)
    patterns = {pattern for entry in ACCEPTED for pattern in entry.requests.split()}
    assert {pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)} == set()


def test_the_same_metrics_are_offered(client: httpx.Client, stock_url: str, smollm2_url: str) -> None:
    """icalign's own follow them: what is in force, and what became of requests, is known to nobody else."""

    def names(url: str) -> set[str]:
        return set(re.findall(r"^# TYPE .*$", client.get(f"{url}/metrics").text, re.MULTILINE))

    own = {name for name in names(smollm2_url) if name.startswith("# TYPE icalign_")}
    assert own
    assert names(smollm2_url) - own == names(stock_url)


def judge(name: str, different: Mapping[str, tuple[Any, Any]]) -> tuple[list[str], list[Accepted]]:
    """The parts that differ and are not accepted, and the accepted differences that are not there."""
    entries = [entry for entry in ACCEPTED if _matches(name, entry.requests)]
    unexpected = [part for part in different if not any(_matches(part, entry.parts) for entry in entries)]
    missing = [entry for entry in entries if not _is_whole(entry, different)]
    return unexpected, missing


def _is_whole(entry: Accepted, different: Mapping[str, tuple[Any, Any]]) -> bool:
    return all(any(fnmatchcase(part, pattern) for part in different) for pattern in entry.parts.split())


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split())


def differences(stock: Reply, ours: Reply) -> dict[str, tuple[Any, Any]]:
    names = [*stock.parts, *(name for name in ours.parts if name not in stock.parts)]
    pairs = {name: (stock.parts.get(name, _ABSENT), ours.parts.get(name, _ABSENT)) for name in names}
    found = {name: (one, other) for name, (one, other) in pairs.items() if one != other}
    if stock.text != ours.text and not any(name.startswith(("body", "event")) for name in found):
        found["form"] = stock.text, ours.text  # the order of fields, or white space
    return found


def describe(request: ParityRequest, parts: Sequence[str], different: Mapping[str, tuple[Any, Any]]) -> str:
    lines = [
        f"{part}\n    stock:   {different[part][0]!r:.400}\n    icalign: {different[part][1]!r:.400}" for part in parts
    ]
    more = [f"and {len(lines) - _SHOWN_PARTS} more"] if len(lines) > _SHOWN_PARTS else []
    return "\n".join([f"{request.method} {request.path} is answered differently:", *lines[:_SHOWN_PARTS], *more])


def ask(client: httpx.Client, url: str, request: ParityRequest, *, ours: bool = False) -> Reply:
    """Send `request` to the server at `url`. `ours` is asked for profile `off`."""
    body, headers = request.body, {"content-type": "application/json", **request.headers}
    if request.body is None:
        headers.pop("content-type", None)
    if ours and request.by_suffix:
        body = {**body, "model": f"{MODEL}:off"}
    elif ours:
        headers["x-alignment-profile"] = "off"
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = {name: value for name, value in headers.items() if value is not None}
    response = client.request(request.method, f"{url}{request.path}", content=content, headers=given)
    return parse_reply(response, url)


def parse_reply(response: httpx.Response, url: str) -> Reply:
    mask = _masks(url)
    headers = {name: mask(value) for name, value in response.headers.items() if name not in _UNCOMPARED_HEADERS}
    headers = {name: value for name, value in headers.items() if not name.startswith("x-alignment-")}
    text = mask(response.text)
    head = {"status": response.status_code, **{f"header.{name}": value for name, value in headers.items()}}
    if not headers.get("content-type", "").startswith("text/event-stream"):
        return Reply(head | _fields("body", text), text)
    events = sorted(text.split("\n\n"), key=_choice_index)
    text = "\n\n".join(events)
    parts = {"events": len(events)}
    for index, event in enumerate(events):
        parts |= _fields(f"event{index}", event)
    return Reply(head | parts, text)


def _choice_index(event: str) -> float:
    """The choice that a chunk belongs to. Chunks of several come as they are made, in an order of chance."""
    found = re.search(r'"choices":\[\{"index":(\d+)', event)
    return int(found[1]) if found else float("inf")


def _masks(url: str) -> Callable[[str], str]:
    """Replaces what is another at every answer: each id by its number, so that equal ones stay equal, and times."""
    ids: dict[str, str] = {}

    def mask(text: str) -> str:
        text = _IDS.sub(lambda found: ids.setdefault(found[0], f"ID-{len(ids)}"), text)
        return _TIMES.sub(r"\g<1>0", text).replace(url, "URL")

    return mask


def _fields(name: str, text: str) -> dict[str, Any]:
    """The fields of `text` by path where it is JSON, bare or as an event's data; else the text."""
    lead, mark, data = text.rpartition("data: ") if name.startswith("event") else ("", "", text)
    try:
        value = json.loads(data)
    except ValueError:
        return {name: text}
    return {f"{name}.(lead)": lead + mark, **dict(_leaves(name, value))}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(f"{name}[{index}]", item)
    else:
        yield name, value
