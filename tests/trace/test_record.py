import json
import logging
from dataclasses import replace

import pytest

from server.core.types import Obstacle
from server.profiles.store import load_profiles
from server.trace.record import Trace, selection_json
from tests.conftest import PROMPTS
from tests.rendering.builders import SELECTION

PROFILES = load_profiles(PROMPTS)


def test_headers_name_the_profile_once_it_is_known() -> None:
    trace = Trace()
    assert trace.headers() == {"x-alignment-trace-id": trace.id}
    trace.profile = PROFILES["default"]
    assert trace.headers()["x-alignment-profile"] == f"default@{PROFILES['default'].version}"


def test_every_trace_has_its_own_id() -> None:
    assert len({Trace().id for _ in range(100)}) == 100


def test_the_record_names_what_was_chosen_in_prompt_order() -> None:
    trace = Trace(profile=PROFILES["default"], selections=(SELECTION,), tokens={"alignment": 3})
    body = trace.to_json()
    assert body["principles"] == ["kind", "clear"]
    assert body["retrieved_principles"] == [{"id": "sums", "similarity": 0.4}]
    assert body["pinned_demonstrations"] == ["first"]
    assert body["demonstrations"] == [{"id": "second", "similarity": 0.5, "risk": "benign"}]
    assert (body["placement"], body["tokens"]) == ("turns", {"alignment": 3})


def test_it_tells_the_texts_of_the_route_or_why_one_is_not_there() -> None:
    assert not {"reminder", "opening", "opening_left_out"} & selection_json(SELECTION).keys()
    assert selection_json(replace(SELECTION, reminder="Be kind."))["reminder"] == "Be kind."
    assert selection_json(replace(SELECTION, opening="Sure:"))["opening"] == "Sure:"
    assert selection_json(replace(SELECTION, obstacle=Obstacle.TOOLS))["opening_left_out"] == "tools"


def test_it_is_written_as_one_line_of_json_without_text(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace(profile=PROFILES["default"], selections=(SELECTION,))
    trace.mark("aligned")
    with caplog.at_level(logging.INFO, "server.trace"):
        trace.write()
    written = json.loads(caplog.records[0].message)
    assert (written["trace_id"], written["outcome"]) == (trace.id, "disconnected")
    assert 0 <= written["timings_ms"]["aligned"] <= written["timings_ms"]["total"]
    assert "Is it raining?" not in caplog.text
