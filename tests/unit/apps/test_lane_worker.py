"""Who owns a partition, from its takeover to its loss, without a broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.state_tenure import LostPartitionError
from emergency_stop.apps.lane_app import LaneApp, LaneSpec
from emergency_stop.apps.lane_partition import LanePartition
from emergency_stop.apps.lane_worker import LaneWorker
from tests.unit.apps.logs_in_memory import Logs, Producer
from tests.unit.apps.test_lane_partition import Deciding

WITHIN_S = 10.0
LOST = LostPartitionError("state-0: another worker took it over")


class FakePartition:
    """What a worker asks of its partition; ``losses``: how often its checkpoints find it lost."""

    def __init__(self, happened: list[str], losses: int = 0) -> None:
        self.number, self.losses = 0, losses
        self.state_log = SimpleNamespace(move_to=lambda generation: happened.append(f"moved to {generation}"))
        self._happened = happened

    async def claim(self) -> None:
        self._happened.append("claimed")

    async def checkpoint(self, still_ours: Any) -> None:
        if await still_ours():
            self._happened.append("checkpoint")
        if self.losses:
            self.losses -= 1
            raise LOST


class Bench:
    """A worker whose partitions are fakes, and what happened, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happened: list[str] = []
        self.restores: list[FakePartition | Exception] = []
        self.may_restore = asyncio.Event()
        self.may_restore.set()
        spec = LaneSpec(
            app_id="bench", brokers="127.0.0.1:9", input_topics=("t",), source=StateSource("127.0.0.1:9", "state"),
            core_factory=lambda _: Deciding(), instance_id="one", read_up=self._note("read up"),
        )  # fmt: skip
        self.worker = LaneWorker(spec, Producer(Logs()), SystemClock())
        self.worker._prepared.set()
        monkeypatch.setattr(self.worker, "_alive", self._note("alive"))
        monkeypatch.setattr(self.worker, "_confirmed", self._note("confirmed"))
        monkeypatch.setattr(LanePartition, "restore", self._restore)
        self._monkeypatch = monkeypatch

    def _note(self, what: str) -> Any:
        async def note() -> None:
            self.happened.append(what)

        return note

    async def _restore(self, *_: Any, **__: Any) -> FakePartition:
        await self.may_restore.wait()
        found = self.restores.pop(0) if self.restores else FakePartition(self.happened)
        self.happened.append("restored")
        if isinstance(found, Exception):
            raise found
        return found

    async def assigned(self, generation: int, *numbers: int) -> None:
        self._monkeypatch.setattr(LaneApp, "consumer_generation_id", generation)
        await self.worker._on_assigned(None, [SimpleNamespace(topic="t", partition=number) for number in numbers])

    async def owned(self) -> Any:
        return await asyncio.wait_for(self.worker._owned.partitions[0], WITHIN_S)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_what_others_wrote_is_read_behind_the_mark_and_before_the_claim(bench: Bench) -> None:
    """A predecessor may have granted leases up to the mark, which restoring writes; each to somebody on the topic."""
    await bench.assigned(1, 0)
    await bench.owned()
    assert bench.happened == ["restored", "read up", "alive", "claimed"]


async def test_who_was_overtaken_while_it_restored_tries_again_once_the_group_confirms_it(bench: Bench) -> None:
    bench.restores = [LOST, LOST]
    await bench.assigned(1, 0)
    await bench.owned()
    assert bench.happened[:5] == ["restored", "confirmed", "restored", "confirmed", "restored"]
    assert bench.worker.counters.lost_partitions == 2


async def test_a_partition_whose_log_has_another_owner_is_restored_anew(bench: Bench) -> None:
    bench.restores = [FakePartition(bench.happened, losses=1)]
    await bench.assigned(1, 0)
    former = await bench.owned()
    bench.happened.clear()
    await bench.worker._checkpoint(former)
    assert not bench.worker.ready_conditions()["restored"]
    assert await bench.owned() is not former
    assert bench.happened == ["alive", "checkpoint", "confirmed", "restored", "read up", "alive", "claimed"]
    bench.happened.clear()
    await bench.worker._checkpoint(former)
    assert bench.happened == ["alive"], "it is nobody's any more"


async def test_a_restore_that_a_rebalance_overtakes_is_given_up(bench: Bench) -> None:
    """Else it would take the log from the one that begins under the new generation."""
    bench.may_restore.clear()
    await bench.assigned(1, 0)
    first = bench.worker._owned.partitions[0]
    await asyncio.sleep(0)
    await bench.assigned(2, 0)
    bench.may_restore.set()
    await bench.owned()
    assert first.cancelled()
    assert bench.happened.count("claimed") == 1


async def test_a_partition_that_stays_moves_to_the_next_generation_and_is_not_restored(bench: Bench) -> None:
    await bench.assigned(1, 0)
    held = await bench.owned()
    bench.happened.clear()
    await bench.assigned(2, 0)
    assert await bench.owned() is held
    assert bench.happened == ["moved to 2"]
    await bench.assigned(4, 0)
    assert await bench.owned() is not held, "somebody else may have had it in between"
