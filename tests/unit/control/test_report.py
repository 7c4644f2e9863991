"""A report: what it asks, how values read, and a page that needs nothing else and can be read by anybody."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.config import Settings
from emergency_stop.control.cli.hits import mark
from emergency_stop.control.cli.main import main
from emergency_stop.control.errors import EXIT_UNAVAILABLE, UnavailableError
from emergency_stop.control.report import page, terminal
from emergency_stop.control.report.sections import SECTIONS, Answer, Period, Row, Unit, ask, shown
from emergency_stop.control.report.source import opened
from tests.unit.coordinate.scenario import hit as a_hit

PERIOD = Period(days=7, blind_after_ms=30_000, lost_after_ms=30_000)
VOID = {"meta", "link", "br", "img", "rect", "line", "circle", "polyline"}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, Unit.PERCENT, "-"),
        ("", Unit.TEXT, "-"),
        (12_345, Unit.COUNT, "12,345"),
        (61, Unit.MS, "61 ms"),
        (9_999, Unit.MS, "9,999 ms"),
        (61_000, Unit.MS, "61.0 s"),
        (7_200_000, Unit.MS, "2.0 h"),
        (2_592_000_000, Unit.MS, "30.0 d"),
        (100, Unit.PERCENT, "100.00 %"),
        (99.9999, Unit.PERCENT, "99.99 %"),
        (84.25, Unit.NUMBER, "84.25"),
    ],
)
def test_a_value_reads_in_its_unit_and_is_never_rounded_up_to_whole(value: Any, unit: Unit, text: str) -> None:
    assert shown(value, unit) == text


def rows_of(count: int, *, label: str = "one") -> dict[str, list[Row]]:
    """Rows for every section, with its columns."""
    return {
        section.key: [
            {column.name: f"{label}-{number}" if column.unit is Unit.TEXT else number + 1 for column in section.columns}
            for number in range(count)
        ]
        for section in SECTIONS
    }


def answered(rows: Mapping[str, list[Row]]) -> list[Answer]:
    """What ``ask`` makes of these rows; and every call has all its parameters."""
    asked = iter(SECTIONS)

    def select(sql: str) -> dict[str, Any]:
        section = next(asked)
        assert re.fullmatch(r"SELECT \* FROM \w+\((\w+ = \d+(, )?)+\)", sql), sql
        found = rows[section.key]
        return {
            "meta": [{"name": column.name} for column in section.columns],
            "data": [[row[column.name] for column in section.columns] for row in found],
            "statistics": {"rows_read": 10, "bytes_read": 100, "elapsed": 0.25},
        }

    return [ask(select, section, PERIOD) for section in SECTIONS]


def test_long_sections_are_cut_and_say_so_and_days_are_not() -> None:
    answers = answered(rows_of(31))
    by_key = {answer.section.key: answer for answer in answers}
    assert len(by_key["time-to-stop-by-day"].rows) == 31
    assert (len(by_key["near-misses"].rows), by_key["near-misses"].found) == (20, 31)
    out = io.StringIO()
    terminal.show(answers, out)
    assert "11 more are not shown" in out.getvalue()
    assert "11 more are not shown" in page.render(answers, days=7, made_at="now", cluster="c")


def test_the_terminal_shows_every_section_its_numbers_and_bars_in_proportion() -> None:
    out = io.StringIO()
    terminal.show(answered(rows_of(2)), out)
    text = out.getvalue()
    for section in SECTIONS:
        assert section.title in text
        for column in section.columns:
            assert column.heading in text
    drawn = [line.count("█") for line in text.splitlines() if "█" in line]
    assert drawn[:2] == [20, 40], "half the value is half the bar"
    empty = io.StringIO()
    terminal.show(answered(rows_of(0)), empty)
    assert empty.getvalue().count("nothing in this period") == len(SECTIONS)


class Outline(HTMLParser):
    """Tags in order, whether they close, and what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counted: dict[str, int] = {}
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.without_scope = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.counted[tag] = self.counted.get(tag, 0) + 1
        self.targets += [str(given[name]) for name in ("href", "src", "xlink:href") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []
        self.without_scope += tag == "th" and "scope" not in given
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_the_page_is_whole_refers_to_itself_only_and_names_its_tables(count: int) -> None:
    text = page.render(answered(rows_of(count, label="<b>&")), days=7, made_at="now", cluster="a<b")
    outline = Outline()
    outline.feed(text)
    assert not outline.open
    assert all(target.startswith("#") and target[1:] in outline.ids for target in outline.targets)
    assert len(set(outline.ids)) == len(outline.ids)
    assert "b" not in outline.counted, "names are text, not markup"
    assert outline.without_scope == 0
    if count:
        assert outline.counted["caption"] == outline.counted["table"] == len(SECTIONS)
        assert outline.counted["svg"] == sum(section.plot is not None for section in SECTIONS)
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"(?i)https?:|<script|@import|url\(", text)


def test_without_a_database_the_report_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ESTOP_DATA_DIR", str(tmp_path))
    assert main(["report"]) == EXIT_UNAVAILABLE
    assert f"ESTOP_DATA_DIR={tmp_path} holds no embedded ClickHouse" in capsys.readouterr().err
    assert not (tmp_path / "clickhouse").exists(), "a look must not create a database"


def test_the_address_of_a_sink_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "sink-query.json").write_text(json.dumps({"url": "http://127.0.0.1:1/query"}))
    with pytest.raises(UnavailableError, match="holds no embedded ClickHouse"), opened(Settings(data_dir=tmp_path)):
        pytest.fail("nothing to read")


def test_a_mark_is_an_audit_record_of_its_hit() -> None:
    hit = a_hit()
    first, second = (
        mark(hit, "false_positive", reason="a test", by="ann", now_ms=5, mark_id=name) for name in ("1", "2")
    )
    assert (first.action, first.subject, first.actor, first.at) == ("hit_marked", hit.hit_id, "ann", 5)
    assert json.loads(first.after)["mark"] == "false_positive"
    assert first.audit_id != second.audit_id, "a second look is a second record"
