"""Tables and lists in documents have what the code has: nothing is left out when the code grows."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from emergency_stop.domain.default_triggers import BUILTIN_KINDS, default_pack
from emergency_stop.domain.values import ClearRule

ROOT = Path(__file__).parents[2]
CODE = ROOT / "streams/emergency_stop"
TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def table(page: str, head: str) -> list[list[str]]:
    """The cells of each row of the table with this head."""
    after = (ROOT / page).read_text().split(f"{head}\n", 1)[1]
    rows = after.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`(\w[\w-]*)`", cell))


def texts(expressions: Iterable[ast.AST]) -> set[str]:
    """Every text among them, whichever of them comes to pass."""
    constants = (one.value for each in expressions for one in ast.walk(each) if isinstance(one, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_the_layers_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    told = [named(row[0]) for row in table("ARCHITECTURE.md", "| layer | what |")]
    assert told == [set(re.split(r" [|:] ", layer)) for layer in layers]


def test_entries_of_troubleshooting_are_counted_and_who_refers_to_one_finds_it() -> None:
    entries = [int(number) for number in re.findall(r"^## (\d+)\. ", TROUBLESHOOTING.read_text(), re.MULTILINE)]
    assert entries == list(range(1, len(entries) + 1))
    referring = [ROOT / "deploy/prometheus/alerts.yml"]
    referring += [page for page in PAGES if "troubleshooting.md" in page.read_text() or page == TROUBLESHOOTING]
    for page in referring:
        for numbers in re.findall(r"\bentr(?:y|ies)\s+(\d+(?:\s+and\s+\d+)*)", page.read_text()):
            assert {int(number) for number in re.findall(r"\d+", numbers)} <= set(entries), f"{page.name}: {numbers}"


def test_anchors_of_links_are_headings() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                told = page.parent / target if target else page
                headings = re.findall(r"^#+ (.+)$", told.read_text(), re.MULTILINE)
                known = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
                assert anchor in known, f"{page.name} links to {target}#{anchor}"


def test_every_doubt_that_speaks_against_a_recovery_has_a_remedy() -> None:
    source = ast.parse((CODE / "coordinate/recovery_checks.py").read_text())
    told = [one for one in ast.walk(source) if isinstance(one, ast.JoinedStr)]
    doubts = [texts(one for one in text.values if isinstance(one, ast.Constant)) for text in told]
    entry = TROUBLESHOOTING.read_text().split("\n## 2. ", 1)[1].split("\n## 3. ", 1)[0]
    assert len(doubts) > 8
    for doubt in doubts:
        words = max(doubt, key=len).strip(" :/,")
        assert words in entry, f"entry 2 has no remedy for {words!r}"


def test_every_rule_of_the_lint_is_told() -> None:
    code = "".join((CODE / f"control/{name}.py").read_text() for name in ("trigger_lint", "trigger_lint_among"))
    rules = {*re.findall(r'(?<!get)\("([a-z][a-z-]+)", ', code), *re.findall(r'Finding\([\w.]+, "([a-z-]+)"', code)}
    told = [row[0].strip("`") for row in table("docs/triggers.md", "| rule | what it means |")]
    assert sorted(told) == sorted(rules)


def test_every_break_of_the_audit_is_told() -> None:
    source = ast.parse((CODE / "wire/audit_verify.py").read_text())
    found: list[ast.AST] = []
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found += {"_note": node.args[:1], "_expect": node.args[1:2]}.get(node.func.attr, [])
        if isinstance(node, ast.FunctionDef) and node.name == "_head_problem":
            found += [one.elts[0] for one in ast.walk(node) if isinstance(one, ast.Tuple)]
    rows = table("docs/audit.md", "| Somebody who can write to ClickHouse | What finds it |")
    assert set[str]().union(*(named(row[1]) for row in rows)) == texts(found)


def test_how_many_triggers_of_the_default_pack_recover_by_themselves() -> None:
    pack = default_pack(0)
    alone = sum(trigger.clear_rule is ClearRule.WHEN_CONDITION_CLEARS for trigger in pack)
    told = (ROOT / "docs/triggers.md").read_text()
    assert (alone, len(pack), len(BUILTIN_KINDS)) == (7, 10, 2)
    assert "seven of its ten triggers" in told
    assert "the two built-in ones" in told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_counters_are_named_as_they_are_scraped(page: Path) -> None:
    """Some collectors leave the suffix to the client library; whoever asks Prometheus needs it."""
    code = "\n".join(path.read_text() for path in CODE.rglob("*.py"))
    counters = set(re.findall(r'Counter(?:MetricFamily)?\(\s*"(estop_\w+?)(?:_total)?"', code))
    assert {"estop_standby_dropped", "estop_commands"} <= counters
    assert not counters & named(page.read_text())
