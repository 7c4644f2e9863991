"""How far detectors are, per partition and lane, as ``estop status`` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emergency_stop.config import Settings
from emergency_stop.control.cli.output import ago, plain, say, show_table
from emergency_stop.domain.messages import Freshness


def sight_document(settings: Settings, freshness: Sequence[Freshness], now_ms: int) -> list[dict[str, Any]]:
    """Each record with its age and whether the partition is blind: seen by no lane."""
    blind = blind_partitions(settings, freshness, now_ms)
    return [
        plain(one) | {"age_ms": now_ms - one.fresh_at if one.fresh_at else None, "blind": one.partition in blind}
        for one in freshness
    ]


def blind_partitions(settings: Settings, freshness: Sequence[Freshness], now_ms: int) -> set[int]:
    """Partitions that no lane has seen within ``ESTOP_BLIND_AFTER_MS``; those that no lane ever wrote of included."""
    newest = dict.fromkeys(range(settings.telemetry_partitions), 0)
    for one in freshness:
        newest[one.partition] = max(one.fresh_at, newest.get(one.partition, 0))
    return {partition for partition, fresh_at in newest.items() if now_ms - fresh_at > settings.blind_after_ms}


def show_sight(settings: Settings, freshness: Sequence[Freshness], now_ms: int) -> None:
    print()
    rows = [
        (
            one.partition,
            one.lane,
            one.instance_id,
            sum(max(0, topic.end - topic.position) for topic in one.topics),
            ago(now_ms - one.fresh_at) if one.fresh_at else None,
            ago(now_ms - one.written_at),
        )
        for one in sorted(freshness, key=lambda one: (one.partition, one.lane))
    ]
    show_table(("PARTITION", "LANE", "DETECTOR", "BEHIND", "FRESH", "TOLD"), rows)
    for partition in sorted(blind_partitions(settings, freshness, now_ms)):
        say(f"warning: partition {partition} is blind: for {settings.blind_after_ms / 1000:g} s or longer no detector"
            " evaluated what is new there")  # fmt: skip
