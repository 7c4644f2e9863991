"""What is known of incidents, how hits are judged by it, and what a wrong file is told."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.apps.backtest.difference import by_id, by_moment, compare, worst
from emergency_stop.apps.backtest.outcomes import Judge, Known, OutcomesError, Score, marked, read_outcomes
from emergency_stop.apps.backtest.sweep import Sweep, SweepError, parse_sweep, variants, watched
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from tests.unit.coordinate.scenario import hit

PACK = default_pack(0)


def fired(at: int, scope: str = "account:a", **more: Any) -> Hit:
    return hit(f"h-{scope}-{at}", occurred_at=at, scope=scope, **more)


def test_a_hit_is_judged_by_the_incident_that_began_last_before_it() -> None:
    """
    Time     0      100     150    200    300     400
    known    [── wrong ──────────────]    [ right ]
    known           [─ right ─]
    hits        w       r          w           r    u
    """  # noqa: D212  (a timeline)
    known = [
        Known("account:a", 0, 200, right=False), Known("account:a", 100, 150, right=True),
        Known("account:a", 300, 400, right=True), Known("account:b", 0, 500, right=True),
        Known("account:a", 0, 500, right=True, trigger_id="another"),
    ]  # fmt: skip
    score = Judge(known).score([fired(at) for at in (50, 120, 180, 350, 401)], "t")
    assert score == Score(right=2, wrong=2, unknown=1, found=2, real=3)
    assert score.precision_percent == 50
    assert score.found_percent == pytest.approx(66.7, abs=0.1)


def test_without_a_judged_hit_there_is_no_precision() -> None:
    score = Judge([]).score([fired(5)], "t")
    assert (score.precision_percent, score.found_percent) == (None, None)


def test_a_file_names_accounts_services_and_moments() -> None:
    lines = [
        "outcome, account, from, to",
        "true_positive, acc-1, 1700000000000, 1700000060000",
        "",
        "false_positive, service:sessionManager, 2023-11-14T22:13:20Z, 2023-11-14T23:13:20+01:00",
        "true_positive, global, 2023-11-14 22:13:20, 2023-11-14 22:13:20",
    ]
    at = 1_700_000_000_000
    assert read_outcomes(lines) == [
        Known("account:acc-1", at, at + 60_000, right=True),
        Known("service:sessionManager", at, at, right=False),
        Known("global", at, at, right=True),
    ]


@pytest.mark.parametrize(
    ("lines", "complaints"),
    [
        ([], ["column 'account' is missing", "column 'outcome' is missing"]),
        (["account,from,until,outcome"], ["column 'to' is missing", "'until' is no column"]),
        (["acount,account,from,to,outcome"], ["'acount' is no column (did you mean 'account'?)"]),
        (["account,from,to,outcome", "a,1,2,true_positiv", "a,1,2"],
         ["line 2: outcome='true_positiv': must be", "did you mean 'true_positive'?", "line 3: has 3 values for 4"]),
        (["account,from,to,outcome", "a,2,1,true_positive"], ["line 2: to=1: lies before from=2"]),
        (["account,from,to,outcome", "a,yesterday,1,true_positive"], ["from='yesterday': is no time; write 2026-"]),
        (["account,from,to,outcome", "server:x,1,1,true_positive"], ["line 2: scope 'server:x' is not one of"]),
        (["account,from,to,outcome", *["a,1,1,maybe"] * 30], ["line 21: outcome", "and 10 more"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_every_problem(lines: list[str], complaints: list[str]) -> None:
    with pytest.raises(OutcomesError) as refused:
        read_outcomes(lines)
    for complaint in complaints:
        assert complaint in str(refused.value)


def test_marks_reach_from_a_window_before_the_hit_to_the_end_of_its_cooldown() -> None:
    class Marked:
        def select(self, sql: str) -> dict[str, Any]:
            if sql == "SELECT hit_id, mark FROM hit_marks":
                return {"data": [["h1", "true_positive"], ["h2", "false_positive"]]}
            named = sql.removeprefix("SELECT ").partition(" FROM ")[0].split(", ")
            told = [hit("h1", occurred_at=10_000, window_ms=3_000), hit("h2", occurred_at=20_001, window_ms=3_000)]
            fields = [name.removeprefix("toUnixTimestamp64Milli(").removesuffix(")") for name in named]
            return {"data": [[getattr(one, name, 0) for name in fields] for one in told]}

        def native(self, sql: str) -> bytes:
            raise AssertionError(sql)

    (trigger,) = [one for one in PACK if one.trigger_id == "default-detection"]
    name = hit("h1").trigger_id
    found = marked(Marked(), {name: trigger}, 0, 20_000)
    assert found == [Known(hit("h1").scope, 7_000, 10_000 + trigger.cooldown_period, right=True, trigger_id=name)]
    (alone,) = marked(Marked(), {}, 0, 20_000)
    assert (alone.from_ms, alone.until_ms) == (7_000, 13_000), "of an unknown trigger, its window behind it too"


def test_hits_are_the_same_in_all_but_when_they_were_detected() -> None:
    recorded = [
        fired(1, detected_at=5),
        fired(2),
        fired(3, observed=1.0),
        fired(4, window_contents='{"a":1,"seen":{"x":3}}'),
    ]
    replayed = [
        fired(1, detected_at=6),
        fired(3, observed=2.0),
        fired(4, window_contents='{"seen":{"x":4},"a":1}'),
        fired(9),
    ]
    found = compare(recorded, replayed, by_id)
    assert (found.equal, [one.hit_id for one in found.missing], [one.hit_id for one in found.extra]) == (
        2, ["h-account:a-2"], ["h-account:a-9"],
    )  # fmt: skip
    assert [(one.recorded.hit_id, one.fields) for one in found.changed] == [("h-account:a-3", ("observed",))]
    assert not found.is_none
    assert [line.split()[0] for line in worst(found, 10)] == ["missing", "extra", "changed"]
    assert len(list(worst(found, 2))) == 2
    again = compare(recorded, [fired(1, trigger_version=8), *recorded[1:]], by_moment)
    assert again.is_none
    assert again.equal == 4


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("riskScore=60:95:5", (60, 65, 70, 75, 80, 85, 90, 95)),
        ("failureRate=0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("x=1:2:0.4", (1, 1.4, 1.8)),
        ("x=5:5:1", (5,)),
    ],
)
def test_a_sweep_goes_in_steps_without_drift(text: str, values: tuple[float, ...]) -> None:
    assert parse_sweep(text).values == values


@pytest.mark.parametrize(
    "text",
    [
        "riskScore",
        "riskScore=",
        "=1:2:1",
        "a=1:2",
        "a=1:2:0",
        "a=2:1:1",
        "a=1:x:1",
        "a=1:2:-1",
        "a=1:2:nan",
        "a=1:inf:1",
    ],
)
def test_what_is_no_sweep(text: str) -> None:
    with pytest.raises(SweepError, match="write NAME=LOW:HIGH:STEP, as in riskScore=60:95:5"):
        parse_sweep(text)


def test_variants_are_every_combination_and_keep_what_overrides_their_trigger() -> None:
    override = read_trigger(
        {"triggerId": "own", "name": "own", "triggerType": "proxy_failure_cascade", "thresholds": {"failures": 9},
         "timeWindow": 60_000, "cooldownPeriod": 0, "stopLevel": "graceful", "priority": 1, "accountId": "acc-1",
         "overrides": "default-proxy-cascade"}, services=(),
    )  # fmt: skip
    triggers: tuple[Trigger, ...] = (*PACK, override)
    found = variants(triggers, [Sweep("failures", (3.0, 4.0)), Sweep("distinctProxies", (1.0, 2.0))])
    assert [(one.base_id, one.values) for one in found] == [
        ("default-proxy-cascade", {"failures": first, "distinctProxies": second})
        for first in (3, 4)
        for second in (1, 2)
    ]  # fmt: skip
    names = [one.trigger.trigger_id for one in found]
    assert len(set(names)) == 4
    kept = watched(triggers, found)[4:]
    assert [(one.overrides, one.account_id, one.thresholds["failures"]) for one in kept] == [
        (name, "acc-1", 9.0) for name in names
    ]
    both = variants(triggers, [Sweep("failures", (3.0,))])
    assert sorted(one.base_id for one in both) == ["default-authentication", "default-proxy-cascade"]
