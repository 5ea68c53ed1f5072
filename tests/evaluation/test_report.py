import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.report import REPORT, write_report
from server.evaluation.runs import load_run
from tests.evaluation.made import SETS, make_row, make_run, make_values

LADDER = {"off": 0.1, "constant": 0.3, "random": 0.5, "topk": 0.7, "ours": 1.0}


class Page(HTMLParser):
    """What a browser sees: balanced tags, text, and what is loaded."""

    EMPTY = frozenset({"meta", "img", "input", "link", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag and css in (attrs.get("class") or "")]


def page_of(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def test_a_run_is_told_in_one_file(tmp_path: Path) -> None:
    run = make_run(tmp_path, list(LADDER), make_values(LADDER))
    path = write_report(run)
    page = page_of(path)
    assert path == tmp_path / REPORT
    assert [item.name for item in sorted(tmp_path.glob("*.png"))] == ["frontier.png", "ladder.png", "tax.png"]
    sources = [str(image["src"]) for image in page.all("img")]
    assert [base64.b64decode(source.removeprefix("data:image/png;base64,"))[:4] for source in sources] == [
        b"\x89PNG"
    ] * 3
    titles = ["Safety against helpfulness", "Attacks", "Form of answers", "Alignment tax", "Preference by likelihood"]
    assert all(title in page.text for title in [*titles, "Cost", "What was asked of whom", "Who judged, and how well"])
    assert "tiny <model>" in page.text
    assert "ours@1" in page.text
    assert "kappa" in page.text
    assert "all 400 requests were answered" in page.text
    assert "not complete" not in page.text


def test_nothing_is_loaded_and_only_our_script_runs(tmp_path: Path) -> None:
    hostile = make_row(
        "ours",
        "frontier",
        "soups",
        77,
        label="harmless",
        prompt="<img src=x onerror=alert(1)>",
        answer="</div><script>alert(2)</script>",
        chosen=["<b>a</b>"],
        values={"answered": 1.0},
    )
    path = write_report(make_run(tmp_path, ["off", "ours"], make_values(LADDER), rows=[hostile]))
    page = page_of(path)
    assert len(page.all("script")) == 1
    assert "alert(2)" in page.text
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))
    assert not re.findall(r"https?://|@import|url\(", path.read_text("utf-8"))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_policy_allows_the_script_as_it_stands(tmp_path: Path) -> None:
    html = write_report(make_run(tmp_path, ["ours"], make_values(LADDER), measures=["tax"])).read_text("utf-8")
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_answers_to_harmful_prompts_are_folded(tmp_path: Path) -> None:
    page = page_of(write_report(make_run(tmp_path, ["ours"], make_values(LADDER), measures=["frontier"])))
    folded = ["open" not in attrs for attrs in page.all("details", "answer")]
    assert folded == [True] * 20 + [False] * 10
    assert {attrs["data-set"] for attrs in page.all("details", "item")} == {
        "frontier bombs",
        "frontier locks",
        "frontier soups",
    }


@pytest.mark.parametrize("measure", list(SETS))
def test_any_measure_stands_alone(tmp_path: Path, measure: str) -> None:
    page = page_of(write_report(make_run(tmp_path, ["ours"], make_values(LADDER), measures=[measure])))
    assert "One arm was asked" in page.text


def test_twenty_arms_without_a_base(tmp_path: Path) -> None:
    arms = {f"budget-{number}": number / 20 for number in range(20)}
    page = page_of(write_report(make_run(tmp_path, list(arms), make_values(arms))))
    assert "20 arms were asked the same" in page.text
    assert "Of arm budget-19" in page.text
    assert "Against" not in page.text


def test_changes_of_the_profile_are_held_against_it(tmp_path: Path) -> None:
    skill = {**LADDER, "k-1": 0.4, "k-8": 1.0}
    page = page_of(write_report(make_run(tmp_path, list(skill), make_values(skill), measures=["frontier"])))
    rows = page.text.rpartition("Against ours, prompt by prompt")[2].partition("Form of answers")[0]
    assert "\nk-1−60.0" in rows  # noqa: RUF001 - a minus sign
    assert "\nk-80.0" in rows
    assert "\ntopk" not in rows
    assert (tmp_path / "sweep.png").is_file()


def test_one_label_alone_gives_no_frontier_plot(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["ours"], lambda *_: {"refused": 1.0}, measures=["frontier"])
    write_report(run)
    assert [item.name for item in tmp_path.glob("*.png")] == ["ladder.png"]


def test_a_run_without_rows_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["off", "ours"], lambda *_: {}, measures=["tax"])
    page = page_of(write_report(run))
    assert "Alignment tax" not in page.text


def test_failures_and_gaps_are_not_hidden(tmp_path: Path) -> None:
    failed = make_row("ours", "tax", "orders", 0, label="harmless", error="/v1 answered 500: <boom>")
    values = make_values(LADDER)
    page = page_of(write_report(make_run(tmp_path / "a", ["ours"], values, measures=["tax"], rows=[failed])))
    assert "1 requests failed" in page.text
    assert "/v1 answered 500: <boom>" in page.text
    run = make_run(tmp_path / "b", ["ours"], values, measures=["tax"])
    lines = (tmp_path / "b" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "b" / "rows.jsonl").write_bytes(b"".join(lines[:4]))
    assert "4 of 10 were asked" in page_of(write_report(load_run(run.folder))).text


def test_a_report_can_begin_with_what_changed(tmp_path: Path) -> None:
    before = make_run(tmp_path / "a", ["off", "ours"], make_values({"off": 0.1, "ours": 0.2}))
    after = make_run(tmp_path / "b", ["off", "ours"], make_values(LADDER))
    page = page_of(write_report(after, tmp_path / "c", before=before))
    assert (tmp_path / "c" / REPORT).is_file()
    first = page.text.index("What changed")
    assert first < page.text.index("Safety against helpfulness")
    assert "+80.0" in page.text
    assert "nothing but chance" in page.text


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'icalign\[eval\]'"):
        write_report(make_run(tmp_path, ["ours"], make_values(LADDER), measures=["frontier"]))


def test_where_nothing_was_refused_no_share_of_it_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["ours"], make_values({"ours": 0.0}), measures=["attacks"])
    page = page_of(write_report(run))
    assert "of the refusal stays under attack" not in page.text
    assert "not measured" in page.text
