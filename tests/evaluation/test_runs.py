from dataclasses import replace
from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.judges.base import Card
from server.evaluation.measures.base import Figure
from server.evaluation.rows import Row, RowWriter
from server.evaluation.runs import Head, RunArm, RunMeasure, load_run, open_run, replace_run

HEAD = Head(
    icalign="0.1.0",
    model="scripted",
    embedder="wordllama-256",
    settings={"seed": 0, "count": 5},
    arms=[RunArm("off", "no alignment", "off@1"), RunArm("k2", "two", "arm-k2@2", {"retrieval": {"k": 2}})],
    measures=[RunMeasure("frontier", "what", [Figure("refused", "refused", "share", True)], {"s": 5})],
    judges=[Card("refusal", "what", "data", "command", {"kappa": 0.9}, ["limits"])],
)


def test_a_run_begins_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    assert open_run(folder, HEAD).rows == {}
    writer = RowWriter(folder / "rows.jsonl")
    writer.append(Row("k", "off", "frontier", "s", "1", "", "Why?"))
    writer.close()
    run = open_run(folder, HEAD)
    assert list(run.rows) == ["k"]
    assert load_run(folder) == run
    assert run.head == HEAD


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            replace(HEAD, settings={"seed": 1, "count": 5}),
            "settings were {'seed': 0, 'count': 5} and are now {'seed': 1",
        ),
        (replace(HEAD, arms=[RunArm("off", "no alignment", "off@2")]), r"off \(off@1\).*off \(off@2\)"),
        (replace(HEAD, measures=[replace(HEAD.measures[0], sets={"s": 6})]), r"frontier \(s 5\).*frontier \(s 6\)"),
        (replace(HEAD, model="other"), "model were scripted and are now other"),
    ],
)
def test_a_run_of_something_else_is_refused(tmp_path: Path, other: Head, words: str) -> None:
    open_run(tmp_path, HEAD)
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_run(tmp_path, other)
    assert "Give another folder" in str(caught.value)


def test_a_run_takes_the_place_of_another(tmp_path: Path) -> None:
    row = Row("k", "off", "frontier", "s", "1", "", "Why?")
    replace_run(tmp_path, HEAD, [row, replace(row, key="l")])
    run = replace_run(tmp_path, replace(HEAD, model="other"), [row])
    assert (run.head.model, list(run.rows)) == ("other", ["k"])
    assert load_run(tmp_path) == run


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"run\.json is not the head of a run"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"arms": []}')
    with pytest.raises(ConfigurationError, match="'measures'"):
        load_run(tmp_path)
