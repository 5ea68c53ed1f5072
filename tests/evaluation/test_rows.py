from dataclasses import replace
from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.rows import Row, RowWriter, dump_row, key_of, parse_row, read_rows

ROW = Row(
    key="ours/frontier/s/1/",
    arm="ours",
    measure="frontier",
    set="s",
    id="1",
    variant="",
    prompt="Why?\r\n\u2028",
    messages=[{"role": "user", "content": "Hello."}, {"role": "user", "content": "Why?"}],
    chosen=["a", "b"],
    principles=[],
    values={"refused": 1.0},
)


def write(path: Path, *rows: Row) -> None:
    writer = RowWriter(path)
    for row in rows:
        writer.append(row)
    writer.close()


def test_a_row_is_read_as_it_was_written() -> None:
    line = dump_row(ROW)
    assert line.count(b"\n") == 1
    assert parse_row(line) == ROW


def test_a_single_message_is_told_once() -> None:
    assert b'"messages"' not in dump_row(replace(ROW, messages=None))


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", replace(ROW, error="busy"), ROW)
    assert read_rows(tmp_path / "rows.jsonl") == {ROW.key: ROW}


def test_there_are_no_rows_without_a_file(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "rows.jsonl") == {}


def test_a_torn_last_line_is_dropped_and_not_joined_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(dump_row(ROW) + dump_row(replace(ROW, key="torn"))[:40])
    assert list(read_rows(path)) == [ROW.key]
    write(path, replace(ROW, key="next"))
    assert list(read_rows(path)) == [ROW.key, "next"]


def test_a_torn_only_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(dump_row(ROW)[:40])
    write(path, ROW)
    assert list(read_rows(path)) == [ROW.key]


def test_any_other_fault_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(dump_row(ROW) + b'{"key": "a"}\n')
    with pytest.raises(ConfigurationError, match=r"rows\.jsonl:2 is not a row"):
        read_rows(path)


def test_rows_of_two_arms_share_a_pair_key() -> None:
    other = replace(ROW, arm="off", key=key_of("off", "frontier", "s", "1", ""))
    assert other.key != ROW.key
    assert other.pair_key == ROW.pair_key
