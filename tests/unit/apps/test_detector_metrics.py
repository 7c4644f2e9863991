"""What the detector tells Prometheus of its triggers: the alert on none of them must be able to fire."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.detector_metrics import DetectorCollector
from emergency_stop.apps.lane_partition import LaneCounters
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.values import StopLevel
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry

CODEC = Codec(LocalRegistry())


def shown(book: TriggerBook) -> float:
    """``estop_triggers`` of a detector that has no partition."""
    worker = SimpleNamespace(
        counters=LaneCounters(), progress=SimpleNamespace(freshness=dict), blind_partitions=set, standby=None
    )
    queue = SimpleNamespace(written=0, given_up=0)
    collector = DetectorCollector(cast("Any", worker), {}, book, cast("Any", queue))
    (family,) = (one for one in collector.collect() if one.name == "estop_triggers")
    return float(family.samples[0].value)


def test_a_detector_that_has_only_the_built_in_triggers_shows_none() -> None:
    book = TriggerBook(CODEC, StopLevel.GRACEFUL)
    assert shown(book) == 0
    first, second, *_ = default_pack(1)
    for one in (first, second, replace(first, is_active=False, version=2)):
        book.record(TailRecord(one.trigger_id.encode(), CODEC.encode(one, TRIGGERS), 0, 7, 0))
    assert shown(book) == 1
