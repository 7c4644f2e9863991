"""The kill campaign's judge must be able to say no: every equality, broken alone, is a failure by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from tests.campaign.verdict import Findings, HitPlace, TableRows

PLACE = HitPlace("trigger", "account", "telemetry.health", 1, 42)
ELSEWHERE = PLACE._replace(offset=43)
BAD = ("telemetry.health", 0, 7)


def won() -> Findings:
    """A campaign in which everything is equal."""
    return Findings(
        seed=5,
        kills=20,
        kills_least=20,
        tables=[TableRows("health_events", 10, 10, 10, telemetry=True), TableRows("hits", 2, 2, 2, telemetry=False)],
        bad_inputs={BAD},
        dead_letters=Counter({BAD: 2}),
        oracle_hits={PLACE},
        hits=[(PLACE, "id-1"), (PLACE, "id-1")],
        opening_hit_ids={"id-1"},
        joins_expected={"audit-1"},
        joins_found={"audit-1"},
        emergencies={"hit:id-1": {"emergency-1"}},
        unfinished_emergencies=[],
    )


def test_a_won_campaign_has_no_failures_and_reports_events_of_telemetry_only() -> None:
    """Hits and dead letters that were written twice under the same identity are allowed, and counted."""
    assert won().failures() == []
    assert won().hit_duplicates == 1
    assert json.loads(won().report()) == {
        "kills": 20,
        "seed": 5,
        "events_produced": 10,
        "events_in_clickhouse": 10,
        "duplicates_in_clickhouse": 0,
        "hits": 1,
        "oracle_hits": 1,
        "emergencies": 1,
    }


def _rows(produced: int, rows: int, distinct: int) -> Callable[[Findings], None]:
    return lambda found: found.tables.append(TableRows("proxy_events", produced, rows, distinct, telemetry=True))


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda found: setattr(found, "kills", 19), "only 19 of at least 20"),
        (_rows(5, 4, 4), "proxy_events: 5 produced, 4 rows"),
        (_rows(5, 6, 5), "proxy_events: 5 produced, 6 rows, 5 distinct"),
        (lambda found: found.bad_inputs.add(("telemetry.proxy", 0, 1)), "bad inputs without a dead letter"),
        (lambda found: found.dead_letters.update([("telemetry.proxy", 0, 1)]), "dead letters of good inputs"),
        (lambda found: found.oracle_hits.add(ELSEWHERE), "hits that the oracle expects and nobody published"),
        (lambda found: found.hits.append((ELSEWHERE, "id-2")), "hits that the oracle does not expect"),
        (lambda found: found.hits.append((PLACE, "id-2")), "hits with two ids"),
        (lambda found: found.opening_hit_ids.add("id-3"), "opening hits without an emergency"),
        (lambda found: found.opening_hit_ids.clear(), "emergencies without an opening hit"),
        (lambda found: found.joins_found.clear(), "repeated hits without a record"),
        (lambda found: found.joins_expected.clear(), "records of joining for hits that should have opened"),
        (lambda found: found.emergencies["hit:id-1"].add("emergency-2"), "causes with two emergencies"),
        (lambda found: found.unfinished_emergencies.append("emergency-1"), "emergencies neither stopped nor partial"),
        (lambda found: found.troubles.append("sink: no lag not reached"), "sink: no lag not reached"),
    ],
)
def test_every_broken_equality_is_named(break_it: Callable[[Findings], None], named: str) -> None:
    findings = won()
    break_it(findings)
    failures = findings.failures()
    assert len(failures) == 1
    assert named in failures[0]
