"""What follows when nobody sees: a timeline per rule.

```
seen_at ──────── blind_after ───────┬─ episode: alert, holds ──────────────┬─ sees again: recorded, nothing resumed
                                    └ new word, fresh within half of it ───┘
```
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.coordinate import blindness
from emergency_stop.coordinate.blind_watch import BlindWatch, View
from emergency_stop.coordinate.blindness import BlindEffect, PartitionSight, Sight, Watchers, step
from emergency_stop.coordinate.snapshot import SnapshotError
from emergency_stop.domain.messages import AuditRecord, Hit
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import ClearRule, StopLevel

AFTER_MS = 30_000
SEEING = PartitionSight(2)


def trigger(name: str, account_id: str | None = None, **changes: Any) -> Trigger:
    definition = {
        "trigger_id": name, "name": name, "trigger_type": "health_score_critical", "thresholds": {"healthScore": 30},
        "time_window": 60_000, "cooldown_period": 60_000, "stop_level": "immediate", "priority": 2,
        "account_id": account_id, "on_blind": "hold", "target_services": ["alpha"],
    }  # fmt: skip
    return replace(parse_trigger(definition, services=("alpha", "beta")), **{"version": 1, **changes})


def decided(
    state: PartitionSight, sight: Sight, *holding: Trigger, now_ms: int, alerting: int = 0
) -> tuple[PartitionSight, list[BlindEffect]]:
    return step(state, sight, Watchers(holding, alerting), now_ms=now_ms, after_ms=AFTER_MS)


def hits(effects: list[BlindEffect]) -> list[Hit]:
    return [effect for effect in effects if isinstance(effect, Hit)]


def audits(effects: list[BlindEffect]) -> list[str]:
    return [effect.action for effect in effects if isinstance(effect, AuditRecord)]


@pytest.mark.parametrize(
    ("sight", "now_ms", "blind"),
    [
        #  fresh_at, seen_at, has_telemetry          now          blind
        (Sight(900, 1_000), 1_000 + AFTER_MS, False),
        (Sight(900, 1_000), 1_001 + AFTER_MS, True),
        (Sight(0, 1_000, has_telemetry=False), 9_999_999, False),
        (Sight(0, 1_000, has_telemetry=True), 1_000 + AFTER_MS, False),
        (Sight(0, 1_000, has_telemetry=True), 1_001 + AFTER_MS, True),
    ],
)
def test_blind_is_what_nobody_saw_for_long_though_there_is_something_to_see(
    sight: Sight, now_ms: int, blind: bool
) -> None:
    state, effects = decided(SEEING, sight, now_ms=now_ms)
    assert (state.episode is not None) == blind
    assert audits(effects) == ["partition_blind"] * blind


def test_a_trigger_that_holds_holds_its_account_or_everything_gracefully() -> None:
    state, effects = decided(SEEING, Sight(900, 1_000), trigger("one", "acc-1"), trigger("all"), now_ms=41_000)
    found = hits(effects)
    assert [(hit.scope, hit.account_id) for hit in found] == [("account:acc-1", "acc-1"), ("global", None)]
    assert {hit.level for hit in found} == {StopLevel.GRACEFUL}
    assert {hit.target_services for hit in found} == {("alpha",)}
    assert {(hit.observed, hit.threshold, hit.margin) for hit in found} == {(40_000.0, 30_000.0, 10_000.0)}
    assert dict(state.raised) == {"one": 1, "all": 1}


@pytest.mark.parametrize(
    ("allowed", "needed"),
    [
        (ClearRule.WHEN_CONDITION_CLEARS, ClearRule.AFTER_OPERATOR_RESET),
        (ClearRule.AFTER_OPERATOR_RESET, ClearRule.AFTER_OPERATOR_RESET),
        (ClearRule.NEVER_AUTOMATICALLY, ClearRule.NEVER_AUTOMATICALLY),
    ],
)
def test_what_nobody_saw_clears_no_sooner_than_by_an_operators_reset(allowed: ClearRule, needed: ClearRule) -> None:
    _, effects = decided(SEEING, Sight(900, 1_000), trigger("one", "acc-1", clear_rule=allowed), now_ms=41_000)
    assert [hit.clear_rule for hit in hits(effects)] == [needed]


def test_the_same_knowledge_again_changes_nothing() -> None:
    state, _ = decided(SEEING, Sight(900, 1_000), trigger("all"), now_ms=41_000)
    again, effects = decided(state, Sight(900, 1_000), trigger("all"), now_ms=99_000)
    assert again is state
    assert effects == []


def test_ids_name_trigger_version_partition_and_episode() -> None:
    def raised(partition: int, fresh_at: int, *holding: Trigger) -> list[str]:
        _, effects = decided(PartitionSight(partition), Sight(fresh_at, 1_000), *holding, now_ms=50_000)
        return [hit.hit_id for hit in hits(effects)]

    one = trigger("one")
    assert raised(2, 900, one) == raised(2, 900, one)
    ids = [*raised(2, 900, one), *raised(3, 900, one), *raised(2, 901, one), *raised(2, 900, replace(one, version=2))]
    assert len(set(ids)) == 4


def test_a_trigger_that_comes_or_changes_while_it_is_blind_holds_too_and_the_others_not_again() -> None:
    state, _ = decided(SEEING, Sight(900, 1_000), trigger("one"), now_ms=41_000)
    _, effects = decided(state, Sight(900, 1_000), trigger("one"), trigger("two"), now_ms=42_000)
    assert [hit.trigger_id for hit in hits(effects)] == ["two"]
    assert audits(effects) == []
    _, effects = decided(state, Sight(900, 1_000), trigger("one", version=2), now_ms=42_000)
    assert [hit.trigger_version for hit in hits(effects)] == [2]


@pytest.mark.parametrize(
    ("sight", "sees"),
    [
        (Sight(900, 90_000), False),  # no new word: only the coordinator was restarted
        (Sight(50_000, 100_000 - AFTER_MS), False),  # new word, of a detector that lags about as much as the bound
        (Sight(50_000, 100_000 - AFTER_MS // 2), True),
    ],
)
def test_it_sees_again_on_new_word_well_within_the_bound_and_nothing_is_resumed(sight: Sight, sees: bool) -> None:
    blind, _ = decided(SEEING, Sight(900, 1_000), trigger("all"), now_ms=41_000)
    state, effects = decided(blind, sight, trigger("all"), now_ms=100_000)
    assert audits(effects) == ["partition_sees_again"] * sees
    assert hits(effects) == []
    assert state == (SEEING if sees else blind)


def test_more_accounts_than_the_bound_are_held_as_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blindness, "ACCOUNTS_HELD_MAX", 2)
    many = [trigger(f"t{number}", f"acc-{number}") for number in range(3)]
    _, effects = decided(SEEING, Sight(900, 1_000), *many, trigger("all"), now_ms=41_000)
    assert [(hit.trigger_id, hit.scope, hit.target_services) for hit in hits(effects)] == [
        ("t0", "global", ("all",)),
        ("all", "global", ("alpha",)),
    ]


def test_what_only_alerts_is_on_record_with_its_number() -> None:
    _, effects = decided(SEEING, Sight(900, 1_000), now_ms=41_000, alerting=9)
    (record,) = effects
    assert isinstance(record, AuditRecord)
    assert record.subject == "telemetry-partition:2"
    assert "for 40 s; 9 triggers alert, 0 hold" in record.reason


# -- recorded before it is published ------------------------------------------------------------------


def view(sight: Sight, *holding: Trigger) -> View:
    return View({2: sight}, Watchers(holding))


def cycle(watch: BlindWatch) -> tuple[dict[bytes, bytes | None], list[BlindEffect]]:
    records = dict(watch.take_dirty())
    return records, watch.take_effects()


def successor(records: dict[bytes, bytes | None]) -> BlindWatch:
    watch = BlindWatch([2, 6], AFTER_MS)
    for key, value in records.items():
        if value is not None:
            watch.restore(key, value)
    return watch


def test_effects_come_only_once_they_are_on_record_and_a_crash_repeats_them() -> None:
    watch, blind = BlindWatch([2, 6], AFTER_MS), view(Sight(900, 1_000), trigger("all"))
    assert watch.next_deadline(blind) == 1_001 + AFTER_MS
    watch.tick(41_000, blind)
    assert watch.take_effects() == []
    records, sent = cycle(watch)
    assert len(sent) == 2
    assert watch.blind() == {2: True, 6: False}

    repeating = successor(records)
    assert repeating.next_deadline(blind) == 0
    repeating.tick(80_000, blind)
    assert cycle(repeating)[1] == sent, "the same effects, to the byte"


def test_once_they_are_sent_a_restart_repeats_nothing_and_the_episode_goes_on() -> None:
    watch, blind = BlindWatch([2, 6], AFTER_MS), view(Sight(900, 1_000), trigger("all"))
    watch.tick(41_000, blind)
    cycle(watch)
    watch.tick(42_000, blind)
    records, sent = cycle(watch)
    assert sent == []
    later = successor(records)
    later.tick(90_000, view(Sight(900, 85_000), trigger("all")))
    assert cycle(later)[1] == []
    assert later.blind()[2] is True


def test_a_partition_that_sees_again_leaves_no_record_behind() -> None:
    watch = BlindWatch([2, 6], AFTER_MS)
    watch.tick(41_000, view(Sight(900, 1_000)))
    cycle(watch)
    watch.tick(42_000, view(Sight(41_900, 42_000)))
    cycle(watch)
    watch.tick(43_000, view(Sight(42_900, 43_000)))
    records, sent = cycle(watch)
    assert records == {b"blind:2": None}
    assert sent == []
    assert watch.next_deadline(view(Sight(42_900, 43_000))) == 43_001 + AFTER_MS


def test_a_damaged_record_is_refused() -> None:
    with pytest.raises(SnapshotError, match="blind:2"):
        BlindWatch([2], AFTER_MS).restore(b"blind:2", b"{}")
