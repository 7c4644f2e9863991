"""One partition's checkpoints: what is durable before what, who may publish, and what nobody waits for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pytest

from emergency_stop.adapters.state_tenure import LostPartitionError
from emergency_stop.apps import lane_afterwards
from emergency_stop.apps.lane_afterwards import Afterwards
from emergency_stop.apps.lane_partition import LaneCounters, LanePartition
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.ports import Publish, RecordingCore
from tests.unit.apps.logs_in_memory import STATE, Logs, Producer, owner

HOLDS, LEASES, NOTICES = "holds", "leases", "notices"
WITHIN_S = 10.0


class Deciding(RecordingCore):
    """Decides what it is told to, and vouches for it with a lease; tells people of it."""

    def __init__(self) -> None:
        self.fresh: list[str] = []
        self.recorded: list[str] = []
        self.leases: list[str] = []
        self.untold: list[str] = []
        self._lease_ready = ""

    def decides(self, *names: str) -> None:
        self.fresh += names

    def vouches(self, name: str) -> None:
        self._lease_ready = name

    def restore(self, records: Iterable[tuple[bytes, bytes]], positions: Mapping[str, int]) -> None:
        self.recorded = [name for _, value in records for name in json.loads(value)]

    def on_batch(self, batch: FetchedBatch, now_ms: int) -> Sequence[Publish]:
        return ()

    def on_tick(self, now_ms: int) -> Sequence[Publish]:
        return ()

    def next_deadline(self) -> int | None:
        return None

    def take_dirty(self) -> Iterator[Sequence[tuple[bytes, bytes | None]]]:
        self.leases, self._lease_ready = [self._lease_ready] if self._lease_ready else [], ""
        self.recorded, fresh, self.fresh = [*self.recorded, *self.fresh], self.fresh, []
        yield [(b"scope", json.dumps(self.recorded).encode())] if fresh else []

    def on_durable(self) -> Sequence[Publish]:
        published, self.recorded = self.recorded, []
        self.untold += published
        return [Publish(HOLDS, b"k", name.encode()) for name in published]

    def on_published(self) -> Sequence[Publish]:
        untold, self.untold = self.untold, []
        return [Publish(NOTICES, b"k", name.encode()) for name in untold]

    def on_settled(self) -> Sequence[Publish]:
        return [Publish(LEASES, b"0", name.encode()) for name in self.leases]


class Owner:
    """A core under a partition, whose producer may be cut off."""

    def __init__(self, partition: LanePartition, core: Deciding, producer: Producer, telling: Producer) -> None:
        self.partition, self.core, self.producer, self.telling = partition, core, producer, telling
        self.is_ours = True

    async def _still_ours(self) -> bool:
        return self.is_ours

    async def checkpoint(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            self.partition.tick(0)
            await self.partition.checkpoint(self._still_ours)


async def takes_over(logs: Logs, generation: int) -> Owner:
    producer, telling, core = Producer(logs), Producer(logs), Deciding()
    state_log = await owner(logs, producer, generation)
    restored, afterwards = logs.restored(), Afterwards(telling, {NOTICES})
    owed = restored.records.pop(lane_afterwards.KEY, None)
    if owed:
        afterwards.restore(owed)
    core.restore(restored.records.items(), restored.positions)
    partition = LanePartition(
        0, core, producer, state_log, dict(restored.positions), LaneCounters(), afterwards,
        restored.superseded, list(restored.late.items()),
    )  # fmt: skip
    await partition.claim()
    return Owner(partition, core, producer, telling)


async def settled(logs: Logs, topic: str, count: int) -> list[bytes | None]:
    async with asyncio.timeout(WITHIN_S):
        while len(logs.of(topic)) < count:  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0.001)
    return logs.values(topic)


async def test_what_was_decided_is_on_record_before_it_is_published_and_vouched_for_after_that() -> None:
    logs = Logs()
    one = await takes_over(logs, 1)
    one.core.decides("a")
    one.core.vouches("lease")
    one.producer.cut(HOLDS)
    checkpoint = asyncio.create_task(one.checkpoint())
    async with asyncio.timeout(WITHIN_S):
        while logs.restored().records.get(b"scope") is None:  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0)
    assert (logs.values(HOLDS), logs.values(LEASES)) == ([], [])
    one.producer.heal(HOLDS)
    await checkpoint
    assert logs.values(HOLDS) == [b"a"]
    assert await settled(logs, LEASES, 1) == [b"lease"]


async def test_who_was_cut_off_publishes_nothing_under_its_successor() -> None:
    """As a timeline: a's record is on its way, it decides on, and its second checkpoint waits for the first.

    ```
    a  decides 1 ── checkpoint ~~~~~~~~~~~~~~~~ written ─► lost
       lease        decides 2 ── checkpoint ~~~~~~~~~~~~~~~~~~~► lost
    b                           takes over, decides 3
    ```
    """
    logs = Logs()
    a = await takes_over(logs, 1)
    a.producer.cut(STATE)
    a.core.decides("1")
    a.core.vouches("lease of a")
    first = asyncio.create_task(a.checkpoint())
    await asyncio.sleep(0)
    a.core.decides("2")
    second = asyncio.create_task(a.checkpoint())
    await asyncio.sleep(0)
    b = await takes_over(logs, 2)
    b.core.decides("3")
    await b.checkpoint()
    a.producer.heal(STATE)
    for checkpoint in (first, second):
        with pytest.raises(LostPartitionError):
            await checkpoint
    assert (logs.values(HOLDS), logs.values(LEASES)) == ([b"3"], [])
    b.core.decides("4")
    await b.checkpoint()
    assert logs.values(HOLDS) == [b"3", b"4"], "a's late records end nobody else's ownership"


async def test_of_two_who_were_cut_off_none_undoes_what_was_restored() -> None:
    """As a timeline: c goes on from what a wrote late, and d from what c published.

    ```
    a  decides 1 ── checkpoint ~~~~~~~~~~~~~~ written ─► lost
    b                decides 2 ── checkpoint ~~~~~~~~~~~~~~~~~~~~~~ written ─► lost
    c                                         takes over, publishes 1
    d                                                               takes over
    ```
    """
    logs, cut_off = Logs(), []
    for generation, name in ((1, "1"), (2, "2")):
        one = await takes_over(logs, generation)
        one.producer.cut(STATE)
        one.core.decides(name)
        cut_off.append((one, asyncio.create_task(one.checkpoint())))
        await asyncio.sleep(0)
    for number, (one, checkpoint) in enumerate(cut_off):
        one.producer.heal(STATE)
        with pytest.raises(LostPartitionError):
            await checkpoint
        if number == 0:
            c = await takes_over(logs, 3)
            await c.checkpoint()
            assert logs.values(HOLDS) == [b"1"]
    d = await takes_over(logs, 4)
    assert d.core.recorded == ["1"]


async def test_who_is_told_so_while_it_waits_for_its_turn_writes_nothing() -> None:
    logs = Logs()
    one = await takes_over(logs, 1)
    one.core.decides("1")
    one.is_ours = False
    before = len(logs.of(STATE))
    await one.checkpoint()
    assert (len(logs.of(STATE)), logs.values(HOLDS)) == (before, [])


async def test_what_a_predecessor_decided_goes_out_only_while_the_log_is_ours() -> None:
    """Nothing need be written for it, so a mark is, which tells."""
    logs = Logs()
    a = await takes_over(logs, 1)
    a.core.decides("1")
    a.producer.cut(HOLDS)
    dying = asyncio.create_task(a.checkpoint())
    async with asyncio.timeout(WITHIN_S):
        while logs.restored().records.get(b"scope") is None:  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0)
    dying.cancel()
    b, c = await takes_over(logs, 2), await takes_over(logs, 3)
    with pytest.raises(LostPartitionError):
        await b.checkpoint()
    assert logs.values(HOLDS) == []
    await c.checkpoint()
    assert logs.values(HOLDS) == [b"1"]


async def test_a_lease_alone_is_given_only_while_the_log_is_ours() -> None:
    logs = Logs()
    a = await takes_over(logs, 1)
    b = await takes_over(logs, 2)
    a.core.vouches("lease of a")
    with pytest.raises(LostPartitionError):
        await a.checkpoint()
    b.core.vouches("lease of b")
    await b.checkpoint()
    assert await settled(logs, LEASES, 1) == [b"lease of b"]


async def test_no_stop_waits_for_what_cannot_be_told_and_it_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody takes notices; the coordinator stops what there is to stop, and dies. Its successor tells."""
    monkeypatch.setattr(lane_afterwards, "WAIT_S", 0.01)
    logs = Logs()
    a = await takes_over(logs, 1)
    a.telling.cut(NOTICES)
    for name in ("1", "2", "3"):
        a.core.decides(name)
        await a.checkpoint()
    assert logs.values(HOLDS) == [b"1", b"2", b"3"]
    assert logs.values(NOTICES) == []
    await a.checkpoint()  # what the third led to is owed as well now
    b = await takes_over(logs, 2)
    await b.checkpoint()
    told = await settled(logs, NOTICES, 4)
    assert [*dict.fromkeys(told)] == [b"1", b"2", b"3"], "the last one twice: it had not been emptied from the outbox"
    await b.checkpoint()
    assert lane_afterwards.KEY not in logs.restored().records, "nothing is owed any more"


async def test_a_topic_that_refuses_notices_ends_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_afterwards, "RETRY_S", 0.0)
    logs = Logs()
    a = await takes_over(logs, 1)
    a.telling.refused.add(NOTICES)
    for name in ("1", "2"):
        a.core.decides(name)
        await a.checkpoint()
    assert logs.values(HOLDS) == [b"1", b"2"]
    a.telling.refused.clear()
    await a.checkpoint()
    await a.checkpoint()
    assert sorted(filter(None, await settled(logs, NOTICES, 2))) == [b"1", b"2"]
