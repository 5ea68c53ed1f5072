from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from server.evaluation.candidates import Candidate, load_starts
from server.evaluation.scoring import Lead
from server.evaluation.search import Effort, Step, Tried
from server.evaluation.search_space import AS_IS, Value
from server.evaluation.tuned import Tuned, dump_profile, figure_cells, figures_of, profile_fields, tell_step
from tests.conftest import PROMPTS
from tests.evaluation.made import make_run, make_values

LONG = "A reminder of some length, which is more than what is written into a single line of a file for people to read."


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    (start,) = load_starts(PROMPTS, ["base"])
    shared = {"high": LONG}
    found = Candidate(start, {"x": Value("long", {"reminders": shared, "openings": shared})})
    run = make_run(tmp_path / "r", ["base", "mine"], make_values({"base": 0.2, "mine": 0.8}), measures=["frontier"])
    rows = {key: replace(row, set="after_history") if row.set == "locks" else row for key, row in run.rows.items()}
    run = replace(run, rows=rows)
    steps = [
        Step("y", 1, [Tried("b", found, 12, 0.5, Lead(0.01, 0.02, -0.03, 0.05))], AS_IS, Candidate(start)),
        Step("x", 1, [Tried("long", found, 48, 0.6, Lead(0.123, 0.02, 0.08, 0.16))], "long", found),
    ]
    return Tuned("mine", found, steps, Effort(12, 48), run, "base", "mine")


def test_figures_are_of_before_and_after(tuned: Tuned) -> None:
    figures = {item.figure.name: item for item in figures_of(tuned)}
    assert list(figures)[:2] == ["score", "refused"]
    assert (figures["refused"].before.mean, figures["refused"].after.mean) == (0.2, 0.8)
    assert (figures["refused"].before.n, figures["refused_after_history"].before.n) == (20, 10)
    assert figures["refused_after_history"].after.mean == 0.8
    assert figures["score"].before.mean == pytest.approx(0.2 - 0.08)
    assert figures["score"].change.mean == pytest.approx(0.8 - 0.02 - 0.12)
    assert figure_cells(figures["answered"], tuned)[3].startswith("+60.0 (")


def test_the_file_has_what_changes_and_the_figures(tuned: Tuned) -> None:
    text = dump_profile(tuned)
    assert text == dump_profile(tuned)
    assert yaml.safe_load(text) == profile_fields(tuned)
    assert list(profile_fields(tuned)) == ["id", "extends", "description", "reminders", "openings"]
    assert profile_fields(tuned)["extends"] == "base"
    assert profile_fields(tuned)["description"].endswith("as one completion text, tuned for tiny <model>.")
    assert "&" not in text  # prompt files have no anchors
    assert (
        "Chosen by up to 48 prompts of each of bombs, locks, soups (seed 3). Measured on 30 other prompts of them"
        in text
    )
    assert "\n#   x: long, +12.3 ± 2.0 on 48\n" in text


def test_a_step_tells_what_it_gave(tuned: Tuned) -> None:
    assert tell_step(tuned.steps[0]) == "y: as it is, since b gave +1.0 ± 2.0 on 12"
    assert tell_step(Step("z", 1, [], AS_IS, tuned.candidate)) == "z: as it is; nothing else could be asked"
