"""What a coordinator knows of detectors' sight: their words on ``estop.freshness``, the triggers that hold, and whether
there is telemetry at all where nobody ever said a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import stop_consumer
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.config.kafka import Brokers
from emergency_stop.coordinate.blind_watch import View
from emergency_stop.coordinate.blindness import Sight, Watchers
from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import builtin_triggers
from emergency_stop.domain.messages import Freshness
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import OnBlind, StopLevel, is_account_id
from emergency_stop.ports import Clock
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import SchemaUnansweredError, UnknownSchemaError

log = logging.getLogger(__name__)

#: A topic that did not answer for this long was not watched: detectors may have spoken meanwhile.
_UNWATCHED_MS: Final = 5_000


class FreshnessBook:
    """The newest word of every lane, by partition, and when it came.

    Detectors' clocks count only among themselves: a word says how long ago, and is counted from when it was read.
    """

    def __init__(self, codec: Codec, clock: Clock) -> None:
        self._codec = codec
        self._clock = clock
        self._written_at: dict[tuple[str, int], int] = {}
        self._fresh_at: dict[int, int] = {}
        self._seen_at: dict[int, int] = {}
        #: (when it was written, how many accounts) of the newest word on each partition.
        self._live: dict[int, tuple[int, int]] = {}
        self._watched_since = clock.now_ms()
        self.with_telemetry: set[int] = set()

    def record(self, record: TailRecord) -> None:
        """One record of the topic; what came before changes nothing. What is no freshness, or cannot be read yet, is
        logged and skipped: nothing shows then that somebody sees, and the next word comes soon.
        """
        if record.value is None:
            return
        try:
            word = self._codec.decode(Freshness, record.value)
        except (WireError, UnknownSchemaError, SchemaUnansweredError) as error:
            log.warning("a record of %s was skipped: %s", topics.FRESHNESS, error)
            return
        lane = (word.lane, word.partition)
        if word.written_at <= self._written_at.get(lane, 0):
            return
        self._written_at[lane] = word.written_at
        self._live[word.partition] = max((word.written_at, word.live_accounts), self._live.get(word.partition, (0, 0)))
        if word.fresh_at:
            lag_ms = max(0, word.written_at - word.fresh_at)
            self._fresh_at[word.partition] = max(word.fresh_at, self._fresh_at.get(word.partition, 0))
            self._seen_at[word.partition] = max(self._clock.now_ms() - lag_ms, self._seen_at.get(word.partition, 0))

    def never_heard_of(self, partitions: int) -> list[int]:
        """Partitions of which nobody ever said that they were seen, nor is telemetry known to be there."""
        return [n for n in range(partitions) if n not in self._fresh_at and n not in self.with_telemetry]

    def live_accounts(self) -> int:
        """Accounts that sent telemetry lately, over all partitions; 0 where no detector counts them."""
        return sum(accounts for _, accounts in self._live.values())

    def sights(self, silent_ms: int) -> Mapping[int, Sight]:
        """What is known now, where the topic last answered ``silent_ms`` ago.

        Time in which it did not answer is not counted against detectors.
        """
        if silent_ms > _UNWATCHED_MS:
            self._watched_since = self._clock.now_ms()
        since = self._watched_since
        return {
            number: Sight(
                self._fresh_at.get(number, 0),
                max(self._seen_at.get(number, 0), since),
                has_telemetry=number in self.with_telemetry,
            )
            for number in self._fresh_at.keys() | self.with_telemetry
        }


class WatcherBook:
    """The active triggers by what they do when they do not see (``estop.triggers``, and the built-in ones)."""

    def __init__(self, codec: Codec, preventive_level: StopLevel) -> None:
        self._codec = codec
        self._triggers: dict[str, Trigger] = {one.trigger_id: one for one in builtin_triggers(preventive_level)}
        self._builtin = frozenset(self._triggers)
        self._watchers: Watchers | None = None

    def record(self, record: TailRecord) -> None:
        """One record of the topic; one that is no trigger changes nothing, as for the detectors."""
        key = (record.key or b"").decode(errors="replace")
        if key in self._builtin:
            return
        if record.value is None:
            self._triggers.pop(key, None)
        else:
            try:
                trigger = self._codec.decode(Trigger, record.value)
            except (WireError, UnknownSchemaError) as error:
                log.warning("trigger %r was skipped: %s", key, error)
                return
            if trigger.account_id is not None and not is_account_id(trigger.account_id):
                log.warning("trigger %r was skipped: account_id %.80r could not be stopped", key, trigger.account_id)
                return
            self._triggers[key] = trigger
        self._watchers = None

    def watchers(self) -> Watchers:
        """The same object until something changes."""
        if self._watchers is None:
            active = [one for one in self._triggers.values() if one.is_active and not one.removed]
            holding = [one for one in active if one.on_blind is OnBlind.HOLD]
            holding.sort(key=lambda one: (-one.priority, one.trigger_id))
            self._watchers = Watchers(tuple(holding), len(active) - len(holding))
        return self._watchers


class BlindSight:
    """Both books as the view that the cores ask for; ``silent_ms`` tells how long ago ``estop.freshness`` answered."""

    def __init__(self, freshness: FreshnessBook, watchers: WatcherBook, silent_ms: Callable[[], int]) -> None:
        self._freshness = freshness
        self._watchers = watchers
        self._silent_ms = silent_ms

    def live_accounts(self) -> int:
        return self._freshness.live_accounts()

    def view(self) -> View:
        return View(self._freshness.sights(self._silent_ms()), self._watchers.watchers())


async def probe_telemetry(
    brokers: str | Brokers, book: FreshnessBook, partitions: int, *, client_id: str, interval_ms: int
) -> None:
    """For ever: look whether there is telemetry where no detector ever spoke."""
    while True:
        unknown = book.never_heard_of(partitions)
        if unknown:
            try:
                book.with_telemetry.update(await _with_telemetry(brokers, unknown, client_id))
            except (KafkaError, OSError) as error:
                log.warning("the ends of telemetry are not known: %s", error)
        await asyncio.sleep(interval_ms / 1000)


async def _with_telemetry(brokers: str | Brokers, partitions: list[int], client_id: str) -> set[int]:
    consumer = AIOKafkaConsumer(
        **client_arguments(brokers), client_id=client_id, group_id=None, enable_auto_commit=False
    )
    await consumer.start()
    try:
        where = [TopicPartition(spec.name, number) for spec in topics.TELEMETRY for number in partitions]
        ends = await consumer.end_offsets(where)
    finally:
        await stop_consumer(consumer)
    return {one.partition for one, end in ends.items() if end > 0}
