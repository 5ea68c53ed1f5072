"""Edits of prompt files while a server runs."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from server.app import create_app
from server.core.types import Body
from server.engine.base import EngineReply, EngineRequest
from server.engine.replies import once
from server.library import Library
from server.retrieval.base import Embedder
from server.settings import Settings
from tests.conftest import AppFactory
from tests.marked import PLACES, EchoEngine, MarkedPrompts, numbers_in, replace_text
from tests.servers import served

CHAT = "/v1/chat/completions"
PROFILES = "/v1/alignment/profiles"
KEYS = [{"name": "all", "key": "a"}, {"name": "school", "key": "b", "profiles": ["default"]}]
Versions = tuple[TestClient, str, str]
PATIENCE_S = 10.0
"""How long a test waits for a change to be in force; how soon it is, tests/bench/soak_prompts.py measures."""


@pytest.fixture
def prompts(tmp_path: Path) -> MarkedPrompts:
    return MarkedPrompts(tmp_path)


@contextmanager
def client_of(
    make_app: AppFactory, prompts: MarkedPrompts, *, delay_s: float = 0.0, **settings: object
) -> Iterator[httpx.Client]:
    app = make_app(EchoEngine(delay_s), prompts=prompts.folder, **settings)
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def question(**fields: object) -> Body:
    return {"model": "scripted", "messages": [{"role": "user", "content": "What is the number?"}], **fields}


def in_force(client: httpx.Client) -> str:
    return label_of(client.post(CHAT, json=question()))


def label_of(response: Any) -> str:
    assert response.status_code == 200, response.text
    return str(response.headers["x-alignment-profile"])


def number_of(text: str) -> int:
    """The one number that the engine was sent, from all places."""
    found = numbers_in(text)
    assert set(found) == set(PLACES)
    (number,) = set().union(*found.values())
    return number


def shows(client: httpx.Client, place: str, number: int) -> bool:
    return numbers_in(client.post(CHAT, json=question()).text)[place] == {number}


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s"
        time.sleep(0.01)


def test_a_change_goes_live_and_rolls_back(make_app: AppFactory, prompts: MarkedPrompts) -> None:
    with client_of(make_app, prompts) as client:
        first = in_force(client)
        version = prompts.edit(1)
        wait_until(lambda: in_force(client) == f"default@{version}")
        answer = client.post(CHAT, json=question())
        assert number_of(answer.text) == 1
        prompts.undo(0)
        wait_until(lambda: in_force(client) == first)


def test_files_written_in_place_go_live(make_app: AppFactory, prompts: MarkedPrompts) -> None:
    files = ("constitutions/general.yaml", "demonstrations/marked.yaml", "templates/chat.jinja")
    with client_of(make_app, prompts) as client:
        for place, name in zip(PLACES, files, strict=True):
            replace_text(prompts.folder / name, "mark-0", "mark-7")
            wait_until(partial(shows, client, place, 7))


def test_without_watching_nothing_changes(make_app: AppFactory, prompts: MarkedPrompts) -> None:
    with client_of(make_app, prompts, watch_prompts=False) as client:
        first = in_force(client)
        prompts.edit(1)
        time.sleep(0.4)
        assert in_force(client) == first


@pytest.mark.parametrize("keep_versions", [8, 1])
def test_a_stream_keeps_its_version_though_it_is_forgotten_meanwhile(
    make_app: AppFactory, prompts: MarkedPrompts, keep_versions: int
) -> None:
    asked = question(stream=True, alignment={"trace": True})
    with client_of(make_app, prompts, delay_s=0.15, keep_versions=keep_versions) as client:
        first = prompts.undo(0)
        with client.stream("POST", CHAT, json=asked) as response:
            lines = response.iter_lines()
            text = next(lines)
            version = prompts.edit(1)
            wait_until(lambda: in_force(client) == f"default@{version}")
            text += "".join(lines)
    assert label_of(response) == f"default@{first}"
    assert number_of(text) == 0
    assert f'"version":"{first}"' in text


class NarrowEngine(EchoEngine):
    """Finds the first prompt too long, and has the prompts changed before it says so."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change: Callable[[], None] | None = change

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        if request.method == "POST" and self._change is not None:
            self._change()
            self._change = None
            yield EngineReply(400, {}, once(b'{"error": {"message": "maximum context length"}}'))
        else:
            async with super().open(request) as reply:
                yield reply


def test_a_request_made_shorter_keeps_its_version(make_app: AppFactory, prompts: MarkedPrompts) -> None:
    def change() -> None:
        prompts.edit(1)
        library.refresh()
        library.refresh()

    app = make_app(NarrowEngine(change), prompts=prompts.folder, keep_versions=1, watch_prompts=False)
    library: Library = app.state.pipeline.library
    with TestClient(app) as client:
        before = library.current.profiles.current["default"].label
        answer = client.post(CHAT, json=question(alignment={"trace": True}))
        assert library.current.profiles.get(before) is None
    assert answer.json()["alignment"]["dropped"]["demonstrations"]
    assert (label_of(answer), number_of(answer.text)) == (before, 0)


def test_an_invalid_change_shows_everywhere_and_mending_clears_it(
    make_app: AppFactory, prompts: MarkedPrompts, caplog: pytest.LogCaptureFixture
) -> None:
    def gauge(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    with client_of(make_app, prompts, api_keys=KEYS) as client, caplog.at_level(logging.ERROR):
        client.headers["authorization"] = "Bearer a"
        before = client.get(PROFILES).json()
        assert (before["findings"], gauge("icalign_prompts_findings")) == ([], 0)
        prompts.edit(1, fault=0)
        wait_until(lambda: client.get(PROFILES).json()["findings"])
        during = client.get(PROFILES).json()
        assert (during["version"], during["data"]) == (before["version"], before["data"])
        (finding,) = during["findings"]
        assert (finding["path"], finding["severity"]) == ("constitutions/general.yaml", "error")
        assert finding["line"] > 0
        assert finding["mend"]
        assert number_of(client.post(CHAT, json=question()).text) == 0
        assert f"constitutions/general.yaml:{finding['line']}: {finding['message']}" in caplog.text
        assert gauge("icalign_prompts_findings") == gauge("icalign_prompts_failures_total") == 1
        bound = client.get(PROFILES, headers={"authorization": "Bearer b"}).json()
        assert ([profile["id"] for profile in bound["data"]], bound["findings"]) == (["default"], [])
        version = prompts.edit(2)
        wait_until(lambda: in_force(client) == f"default@{version}")
        after = client.get(PROFILES).json()
        assert (after["findings"], gauge("icalign_prompts_findings")) == ([], 0)
        assert gauge("icalign_prompts_failures_total") == gauge("icalign_prompts_changes_total") == 1


@pytest.fixture(scope="module")
def two_versions(light_embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """A client, and the version before the one in force, and that. Nothing is changed after."""
    prompts = MarkedPrompts(tmp_path_factory.mktemp("two"))
    values = {"engine": "scripted", "prompts": prompts.folder, "api_keys": KEYS, "watch_prompts": False}
    app = create_app(Settings.model_validate(values), engine=EchoEngine(), embedder=light_embedder)
    library: Library = app.state.pipeline.library
    old = prompts.undo(0)
    new = prompts.edit(1)
    library.refresh()
    library.refresh()
    with TestClient(app, headers={"authorization": "Bearer a"}) as client:
        yield client, old, new


def asking(way: str, name: str) -> dict[str, object]:
    """A request for profile `name`, as arguments for a client."""
    if way == "suffix":
        return {"json": question(model=f"scripted:{name}")}
    if way == "header":
        return {"json": question(), "headers": {"x-alignment-profile": name}}
    return {"json": question(alignment={"profile": name})}


@pytest.mark.parametrize("way", ["suffix", "header", "field"])
def test_a_version_can_be_asked_for_in_three_ways(two_versions: Versions, way: str) -> None:
    client, old, new = two_versions
    for number, version in enumerate((old, new)):
        answer = client.post(CHAT, **asking(way, f"default@{version}"))  # type: ignore[arg-type]  # by name
        assert (label_of(answer), number_of(answer.text)) == (f"default@{version}", number)
        assert answer.json()["model"] == "scripted"


@pytest.mark.parametrize("way", ["suffix", "header", "field"])
def test_an_unknown_version_is_told_with_the_known_ones(two_versions: Versions, way: str) -> None:
    client, old, new = two_versions
    answer = client.post(CHAT, **asking(way, "default@0123456789ab"))  # type: ignore[arg-type]  # by name
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "profile_not_found")
    assert error["message"].endswith(f"Known are: default@{old}, default@{new}.")


@pytest.mark.parametrize("way", ["suffix", "header", "field"])
def test_a_bound_key_has_its_profiles_as_they_are_now(two_versions: Versions, way: str) -> None:
    client, old, new = two_versions

    def status(name: str) -> int:
        asked = asking(way, name)
        headers = {"authorization": "Bearer b", **asked.pop("headers", {})}  # type: ignore[dict-item]  # of text
        return client.post(CHAT, **asked, headers=headers).status_code  # type: ignore[arg-type]  # by name

    assert [status(name) for name in ("default", f"default@{new}", f"default@{old}", "base")] == [200, 200, 403, 403]


def test_versions_are_previewed_and_retrieved_from(two_versions: Versions) -> None:
    client, old, new = two_versions
    for number, version in enumerate((old, new)):
        named = {"alignment": {"profile": f"default@{version}"}}
        preview = client.post("/v1/alignment/render", json=question(**named)).json()
        assert (preview["version"], number_of(str(preview["body"]))) == (version, number)
        found = client.post("/v1/alignment/retrieve", json={"text": "What is the number?", **named}).json()
        assert found["version"] == version


def test_profiles_list_their_versions(two_versions: Versions) -> None:
    client, old, new = two_versions
    data = {profile["id"]: profile for profile in client.get(PROFILES).json()["data"]}
    assert (data["default"]["version"], data["default"]["versions"]) == (new, [old, new])
    assert data["off"]["versions"] == [data["off"]["version"]]


def test_models_with_a_version_are_shown_but_not_listed(two_versions: Versions) -> None:
    client, old, new = two_versions
    listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert "scripted:default" in listed
    assert not any("@" in name for name in listed)
    for version in (old, new):
        name = f"scripted:default@{version}"
        shown = client.get(f"/v1/models/{name}").json()
        assert (shown["id"], shown["parent"]) == (name, "scripted")
        assert shown["alignment"] == {"profile": "default", "version": version}
    for name in (f"scripted:default@{'0' * 12}", f"scripted:nobody@{old}", f"other:default@{old}"):
        answer = client.get(f"/v1/models/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    bound = {"authorization": "Bearer b"}
    assert client.get(f"/v1/models/scripted:default@{new}", headers=bound).status_code == 200
    assert client.get(f"/v1/models/scripted:default@{old}", headers=bound).status_code == 404


def test_an_endpoint_that_is_not_aligned_takes_versions_of_off(two_versions: Versions) -> None:
    client, old, _ = two_versions
    off = next(profile for profile in client.get(PROFILES).json()["data"] if profile["id"] == "off")["version"]
    # 501: it was let through, to an engine that does not have it.
    assert client.post("/tokenize", json={"model": f"scripted:off@{off}"}).status_code == 501
    assert client.post("/tokenize", json={"model": f"scripted:default@{old}"}).status_code == 400
