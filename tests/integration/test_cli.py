"""The operator's command line against a running installation, each command a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.apps.stack.stack import Stack
from emergency_stop.config import Settings
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.domain.default_triggers import BUILTIN_KINDS, default_pack

pytestmark = pytest.mark.needs("broker", "chdb")
TRIGGER = {
    "trigger_id": "low-health",
    "name": "Low health",
    "trigger_type": "health_score_critical",
    "thresholds": {"healthScore": 30},
    "priority": 1,
    "time_window": 60_000,
    "cooldown_period": 60_000,
    "stop_level": "immediate",
    "target_services": ["accountHealthMonitor"],
}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Operator:
    """Types ``estop …`` and reads what it says."""

    def __init__(self, settings: Settings) -> None:
        self._env = {**os.environ, **settings.as_env()}

    async def types(self, *arguments: str, stdin: str = "") -> Outcome:
        def run() -> Outcome:
            command = [sys.executable, "-m", "emergency_stop.control.cli.main", *arguments]
            ended = subprocess.run(command, env=self._env, capture_output=True, text=True, input=stdin, timeout=90,
                                   check=False)  # fmt: skip
            return Outcome(ended.returncode, ended.stdout, ended.stderr)

        return await asyncio.to_thread(run)

    async def sees(self, expected: Callable[[Any], bool], *arguments: str) -> Any:
        """Asks again until the answer is as expected."""
        shown = ""
        for _ in range(60):
            outcome = await self.types(*arguments, "--json")
            assert outcome.code == EXIT_OK, outcome
            if expected(outcome.document):
                return outcome.document
            shown = outcome.out
        return pytest.fail(f"estop {' '.join(arguments)} never showed it; last: {shown}")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """The whole system with one service that works."""
    settings = Settings(
        data_dir=tmp_path, services=("accountHealthMonitor",), immediate_stop_timeout_ms=1_000,
        health_monitoring_interval_ms=1_000,
    )  # fmt: skip
    async with Stack(settings, lambda _text: None, embedded=True, accounts=3, rate=20) as running:
        yield running


async def test_an_operator_stops_sees_and_resumes(stack: Stack) -> None:
    operator = Operator(stack.settings)
    await _checks(operator)
    await _triggers(operator)
    await _stops_and_resumes(operator)
    await _is_refused(operator)
    await _drills_plans_and_resets(operator)
    await _asks_why(operator)
    await _asks_whether_it_has_cleared(operator)
    await _is_never_told_what_is_not_proven(operator, stack)


async def _checks(operator: Operator) -> None:
    checked = await operator.types("check", "--json")
    assert checked.code == EXIT_OK, checked
    assert {layer["verdict"] for layer in checked.document["layers"]} == {"ok"}


async def _triggers(operator: Operator) -> None:
    before = (await operator.types("triggers", "list", "--json")).document
    assert len(before) == len(default_pack(0)) + len(BUILTIN_KINDS)

    added = await operator.types("triggers", "add", "-", "--json", stdin=json.dumps(TRIGGER))
    assert added.code == EXIT_OK, added
    again = await operator.types("triggers", "add", "-", "--json", stdin=json.dumps(TRIGGER))
    assert again.document[0]["version"] == added.document[0]["version"] + 1

    mistaken = await operator.types("triggers", "remove", "low-helth")
    assert mistaken.code == EXIT_BAD_INPUT
    assert "did you mean 'low-health'?" in mistaken.err
    await _versions(operator, again.document[0]["version"])
    assert (await operator.types("triggers", "remove", "low-health")).code == EXIT_OK
    after = (await operator.types("triggers", "list", "--json")).document
    assert [one["trigger_id"] for one in after] == [one["trigger_id"] for one in before]


async def _versions(operator: Operator, stable: int) -> None:
    """A canary, taken back; another one, promoted; and every version of it all in the history."""
    stricter = json.dumps(TRIGGER | {"thresholds": {"healthScore": 50}})
    canary = await operator.types("triggers", "add", "-", "--canary", "10", "--by", "ann", "--json", stdin=stricter)
    assert canary.code == EXIT_OK, canary
    assert f"10% of accounts, the others version {stable}" in (await operator.types("triggers", "list")).out

    back = await operator.types("triggers", "rollback", "low-health", "--reason", "too strict", "--json")
    assert back.code == EXIT_OK, back
    assert (back.document["version"], back.document["thresholds"]) == (stable + 2, {"healthScore": 30})
    assert (await operator.types("triggers", "promote", "low-health")).code == EXIT_BAD_INPUT
    await operator.types("triggers", "add", "-", "--canary", "10", stdin=stricter)
    promoted = await operator.types("triggers", "promote", "low-health", "--json")
    assert (promoted.document["version"], promoted.document["canary_percent"]) == (stable + 4, 100)

    history = (await operator.types("triggers", "history", "low-health", "--json")).document
    assert [one["version"] for one in history] == list(range(1, stable + 5))
    assert history[-4]["updated_by"] == "ann"
    assert history[-3]["changes"] == ["canary_percent: 10 → 100", "thresholds.healthScore: 50 → 30"]
    assert "canary_percent: 10 → 100" in (await operator.types("triggers", "history", "low-health")).out
    unknown = await operator.types("triggers", "history", "low-helth")
    assert unknown.code == EXIT_BAD_INPUT
    assert "did you mean 'low-health'?" in unknown.err


async def _stops_and_resumes(operator: Operator) -> None:
    stopped = await operator.types("stop", "global", "--reason", "a drill", "--wait", "--json")
    assert stopped.code == EXIT_OK, stopped
    assert stopped.document["proven"] is True
    emergency = stopped.document["emergency"]
    assert [(one["service"], one["state"]) for one in emergency["instances"]] == [("accountHealthMonitor", "stopped")]

    status = (await operator.types("status", "--json")).document
    assert [(hold["scope"], hold["reason"]) for hold in status["holds"]] == [("global", "a drill")]
    assert [one["liveness"] for one in status["instances"]] == ["live"]
    assert status["services_missing"] == []
    assert "a drill" in (await operator.types("status")).out

    seen = await operator.sees(lambda found: {one["partition"] for one in found["freshness"]} == {0, 1, 2, 3}, "status")
    assert {(one["lane"], one["instance_id"]) for one in seen["freshness"]} == {("a", "detector")}
    assert [one for one in seen["freshness"] if one["blind"]] == []

    listed = (await operator.types("emergencies", "--json")).document
    assert [(one["emergency_id"], one["state"]) for one in listed] == [(emergency["emergency_id"], "stopped")]
    assert emergency["emergency_id"] in (await operator.types("emergencies")).out

    first = await operator.types("resume", "global", "--reason", "over", "--by", "ann", "--json")
    assert (first.code, first.document["resumed"], first.document["approved"]) == (EXIT_NOT_PROVEN, False, True)
    again = await operator.types("resume", "global", "--reason", "over", "--by", "Ann")
    assert again.code == EXIT_NOT_PROVEN, "the same person twice is one"
    assert "your word is on record: over: 1 of 2 people" in again.out
    resumed = await operator.types("resume", "global", "--reason", "over", "--by", "ben", "--json")
    assert resumed.code == EXIT_OK, resumed
    assert resumed.document["resumed"] is True
    assert (await operator.types("status", "--json")).document["holds"] == []


async def _is_refused(operator: Operator) -> None:
    nothing = await operator.types("resume", "global", "--reason", "again")
    assert nothing.code == EXIT_REFUSED
    assert "nothing holds global" in nothing.err

    first = (await operator.types("stop", "account:one", "--reason", "first", "--wait", "--json")).document
    second = (await operator.types("stop", "account:one", "--reason", "second", "--wait", "--json")).document
    assert first["proven"] is True
    assert second["proven"] is True
    held = (await operator.types("status", "--json")).document["holds"][0]
    stale = await operator.types(
        "resume", "account:one", "--reason", "x", "--epoch", str(held["epoch"] - 1), "--timeout", "2"
    )
    assert stale.code == EXIT_REFUSED
    assert "IS STILL HELD" in stale.out
    assert "a newer stop has epoch" in stale.out, "the coordinator's own word"


async def _drills_plans_and_resets(operator: Operator) -> None:
    drilled = await operator.types("drill", "account:two", "--level", "graceful", "--json")
    assert drilled.code == EXIT_OK, drilled
    assert drilled.document["proven"] is True
    assert [one["scope"] for one in (await operator.types("status", "--json")).document["holds"]] == ["account:one"]
    drills = await operator.types("drills", "--json")
    assert drills.code == EXIT_FAILED, "levels that were never proven are red"
    red = {one["level"]: one["red"] for one in drills.document}
    assert red == {"immediate": False, "graceful": False, "service_specific": True, "cascading": True,
                   "maintenance": True}  # fmt: skip
    assert "never" in (await operator.types("drills")).out

    planned = await operator.types(
        "stop", "account:three", "--level", "maintenance", "--at", "2100-01-01T00:00:00Z", "--reason", "x", "--wait",
        "--json",
    )  # fmt: skip
    assert (planned.code, planned.document["emergency"]["state"]) == (EXIT_OK, "scheduled")
    off = await operator.types(
        "resume", "account:three", "--emergency", planned.document["emergency_id"], "--reason", "not now", "--json"
    )
    assert (off.code, off.document["called_off"]) == (EXIT_OK, True)

    nothing = await operator.types("reset", "account:one", "--reason", "x")
    assert nothing.code == EXIT_REFUSED
    assert "nothing is latched" in nothing.err
    assert (await operator.types("reset", "no-such-emergency", "--reason", "x")).code == EXIT_BAD_INPUT


async def _asks_why(operator: Operator) -> None:
    sent = await operator.types("produce", "--incident", "suspension-risk:acc-hot", "--count", "1")
    assert sent.code == EXIT_OK, sent
    emergencies = await operator.sees(
        lambda found: any(one["scope"] == "account:acc-hot" for one in found), "emergencies"
    )
    hit = next(one for one in emergencies if one["scope"] == "account:acc-hot")
    explained = await operator.types("explain", hit["emergency_id"][:13], "--json")
    assert explained.code == EXIT_OK, explained
    assert explained.document["trigger_id"] == "default-suspension-risk"
    assert explained.document["emergency_id"] == hit["emergency_id"]
    assert "highest risk_score" in (await operator.types("explain", hit["emergency_id"])).out
    assert (await operator.types("explain", "no-such-hit")).code == EXIT_BAD_INPUT

    latched = await operator.types("resume", "account:acc-hot", "--reason", "x")
    assert latched.code == EXIT_REFUSED
    assert f"latched: {hit['emergency_id']}" in latched.out
    reset = await operator.types("reset", "account:acc-hot", "--reason", "looked at", "--json")
    assert (reset.code, reset.document["reset"]) == (EXIT_OK, True)
    assert (await operator.types("resume", "account:acc-hot", "--reason", "over")).code == EXIT_OK

    # Once the detector's state is durable.
    why_not = await operator.sees(
        lambda found: any("suppressed by cooldown" in reason for reason in found["reasons"]),
        "why-not", "default-suspension-risk", "acc-hot",
    )  # fmt: skip
    assert why_not["terms"][0]["holds"] is True
    unknown = await operator.types("why-not", "default-suspension-risc", "acc-hot")
    assert unknown.code == EXIT_BAD_INPUT
    assert "did you mean 'default-suspension-risk'?" in unknown.err
    stranger = await operator.types("why-not", "default-health-score", "acc-nobody")
    assert "no event of the account" in stranger.out


async def _asks_whether_it_has_cleared(operator: Operator) -> None:
    """Three failed authentications stay in their window for ten minutes."""
    sent = await operator.types("produce", "--incident", "authentication:acc-out", "--count", "1")
    assert sent.code == EXIT_OK, sent
    condition = await operator.types("condition", "default-authentication", "account:acc-out", "--json")
    assert condition.code == EXIT_FAILED, condition
    assert condition.document["state"] == "holds"
    nobody = await operator.types("condition", "default-authentication", "account:acc-nobody")
    assert (nobody.code, "unknown" in nobody.out) == (EXIT_NOT_PROVEN, True), nobody
    mistaken = await operator.types("condition", "default-authentification", "global")
    assert mistaken.code == EXIT_BAD_INPUT
    assert "did you mean 'default-authentication'?" in mistaken.err


async def _is_never_told_what_is_not_proven(operator: Operator, stack: Stack) -> None:
    unknown = await operator.types("stop", "service:nobody", "--reason", "nobody there", "--wait", "--json")
    assert unknown.code == EXIT_NOT_PROVEN, unknown
    assert unknown.document["proven"] is False

    # Taken out, or the stack would start it again.
    await stack.children.pop("accountHealthMonitor").stop()
    left = await operator.types("stop", "global", "--reason", "after hours", "--wait", "--json")
    assert left.code == EXIT_OK, left
    assert [one["reason"] for one in left.document["emergency"]["instances"]] == ["left in good order"]
    assert "no instance of accountHealthMonitor is alive" in (await operator.types("status")).err


async def test_a_mark_reaches_the_report_and_the_newest_one_counts(stack: Stack) -> None:
    """The report asks the running sink."""
    operator = Operator(stack.settings)
    assert (await operator.types("produce", "--incident", "suspension-risk:acc-hot", "--count", "1")).code == EXIT_OK
    (emergency,) = await operator.sees(lambda found: len(found) == 1, "emergencies")
    hit_id = (await operator.types("explain", emergency["emergency_id"], "--json")).document["hit_id"]
    assert (
        await operator.types("hits", "mark", "no-such-hit", "--true-positive", "--reason", "x")
    ).code == EXIT_BAD_INPUT
    beginning = ("hits", "mark", hit_id[:12], "--by", "ann", "--reason", "a test", "--json")
    assert (await operator.types(*beginning, "--true-positive")).code == EXIT_OK
    marked = await operator.types(*beginning, "--false-positive")
    assert marked.code == EXIT_OK, marked
    assert (marked.document["subject"], marked.document["actor"]) == (hit_id, "ann")

    def is_counted(report: Any) -> bool:
        rows = {row["trigger_id"]: row for row in report["hit-outcomes"]["rows"]}
        found = rows.get("default-suspension-risk", {})
        marked = (found.get("true_positives"), found.get("false_positives")) == (0, 1)
        # what follows from it comes on topics of its own
        return marked and bool(report["time-to-stop-by-level"]["rows"] and report["detector-availability"]["rows"])

    report = await operator.sees(is_counted, "report", "--since", "1d")
    assert report["time-to-stop-by-level"]["rows"][0]["stops"] > 0
    assert report["detector-availability"]["rows"][0]["available_percent"] > 0
