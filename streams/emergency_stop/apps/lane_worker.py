"""A Faust worker around pure partition cores: group membership and flow from Faust, positions its own.

Theory of operation. Faust's agent hands over one message per fetched partition response. Each batch says
from which position it was fetched. The partition's own position record says what was applied. A batch from
beyond that (Faust 0.15.3 can skip a fetched batch when a rebalance meets start-up) is not processed; the
consumer is sent back. A batch from before it is skipped by the core, row by row. So a committed offset is
only a hint, and what was applied survives any crash exactly once. A generation change drops every core
whose ownership was interrupted; they are read back from the state log. So is one whose log turns out to have
another owner, where the group goes on giving it to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.adapters.state_tenure import LostPartitionError
from emergency_stop.apps.lane_afterwards import Afterwards
from emergency_stop.apps.lane_app import LaneApp, LaneSchema, LaneSpec, make_app
from emergency_stop.apps.lane_partition import LaneCounters, LanePartition
from emergency_stop.apps.lane_progress import LaneProgress
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.ports import Clock, Publisher

log = logging.getLogger(__name__)

EXIT_CRASHED: Final = 70
EXIT_STALLED: Final = 75
_TICK_MS: Final = 50
_FLUSH_WITHIN_S: Final = 5.0
#: What jobs that were cancelled may take, to close their connections.
_END_WITHIN_S: Final = 6.0
#: A partition that stands still this long before its end is fetched again.
_STALL_CHECK_MS: Final = 3_000
#: However many wait to know, the broker is not asked for ends more often.
_LOOK_PAUSE_MS: Final = 200


@dataclass(slots=True)
class _Ownership:
    """Partitions held under one generation; restoring ones are awaited."""

    generation: int = -1
    partitions: dict[int, asyncio.Task[LanePartition]] = field(default_factory=dict)


class LaneWorker:
    """Runs a ``LaneSpec``. One per process; ``run`` blocks until a signal or a crash."""

    def __init__(self, spec: LaneSpec, publisher: Publisher, clock: Clock, behind: Publisher | None = None) -> None:
        """``behind``: publishes what nobody waits for; ``None``: there is nothing of that kind."""
        self._spec = spec
        self._publisher = publisher
        self._behind = behind or publisher
        self._clock = clock
        self._owned = _Ownership()
        self._prepared = asyncio.Event()
        self._failed: asyncio.Future[int] | None = None
        self._next_checkpoint: dict[int, float] = {}
        self._checkpoints: set[asyncio.Task[None]] = set()
        #: Run from the beginning of ``serve`` to its end.
        self._beside: list[Callable[[], Awaitable[None]]] = []
        self.progress = LaneProgress()
        self._looking_soon = asyncio.Event()
        self.counters = LaneCounters()
        self.app = self._make_app()

    # -- life cycle -----------------------------------------------------------------------------

    def run_beside(self, *jobs: Callable[[], Awaitable[None]]) -> None:
        """Before ``serve``: run these too. They never end; one that raises ends the process."""
        self._beside += jobs

    async def serve(self, stop: asyncio.Event) -> int:
        """Work until ``stop`` is set. Returns an exit code: 0, or why the process must be restarted."""
        self._failed = asyncio.get_running_loop().create_future()
        self.app.finalize()
        tasks = [asyncio.create_task(self._guarded(job)) for job in self._jobs()]
        await self.app.start()
        stopping = asyncio.create_task(stop.wait())
        crashed = asyncio.create_task(self._watch_crash())
        watched: set[asyncio.Future[Any]] = {stopping, crashed, self._failed}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        code = self._failed.result() if self._failed.done() else EXIT_CRASHED if crashed.done() else 0
        if code == 0:
            await self._flush_at_last()
        for task in (*tasks, stopping, crashed, *self._checkpoints):
            task.cancel()
        if code == 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.app.stop(), 10)
        await asyncio.wait(tasks, timeout=_END_WITHIN_S)
        return code

    def _jobs(self) -> list[Callable[[], Awaitable[None]]]:
        standby = [self._spec.standby.run] if self._spec.standby is not None else []
        return [self._prepare, self._tick_forever, self._watch_progress, *standby, *self._beside]

    async def _prepare(self) -> None:
        if self._spec.prepare is not None:
            await self._spec.prepare()
        self._prepared.set()

    async def _guarded(self, job: Callable[[], Awaitable[None]]) -> None:
        """A background job that raises ends the process: nothing must look alive that is not."""
        try:
            await job()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the worker's %s failed; ending the process so that it is restarted", job)
            self._fail(EXIT_CRASHED)

    async def _watch_crash(self) -> None:
        while not self.app.crashed and not self.app.should_stop:  # noqa: ASYNC110  # Faust has no event for a crash
            await asyncio.sleep(_TICK_MS / 1000)

    def _fail(self, code: int) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(code)

    def ready_conditions(self) -> dict[str, bool]:
        """Readiness by name; all must be true."""
        tasks = self._owned.partitions.values()
        return {
            "prepared": self._prepared.is_set(),
            "assigned": self._owned.generation >= 0,
            "restored": all(task.done() and not task.cancelled() for task in tasks),
            "not_rebalancing": not self.app.rebalancing,
            "seeing": not self.blind_partitions(),
        }

    def blind_partitions(self) -> tuple[int, ...]:
        """Those that have stood still before their end for ``blind_after_ms``. Any thread may ask."""
        return self.progress.blind(_steady_ms(), self._spec.blind_after_ms)

    def look_soon(self) -> None:
        """Somebody waits to know how fresh the partitions are: ask the broker for their ends before it is time."""
        self._looking_soon.set()

    @property
    def standby(self) -> StandbyReader | None:
        """The copies that this worker keeps, for metrics."""
        return self._spec.standby

    def position(self, topic: str, partition: int) -> int | None:
        """The next offset to apply, where this worker owns the partition and has restored it."""
        task = self._owned.partitions.get(partition)
        return task.result().expected(topic) if task is not None and _succeeded(task) else None

    # -- Faust ----------------------------------------------------------------------------------

    def _make_app(self) -> LaneApp:
        spec = self._spec
        app = make_app(spec)
        app.lane_topics = frozenset(spec.input_topics)
        app.lane_flush = self.flush
        topic = app.topic(*spec.input_topics, schema=LaneSchema())
        app.agent(topic, name=f"{spec.app_id}-lane", concurrency=1)(self._consume)
        on_assigned: Any = app.on_partitions_assigned  # its stub knows no keyword arguments
        on_assigned.connect(self._on_assigned, weak=False)
        return app

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self._on_event(event)
            except asyncio.CancelledError:
                raise
            except Exception:
                # Faust would acknowledge what an agent raised on; so the process ends before it can.
                log.exception("a batch could not be applied; ending the process before it is acknowledged")
                self._fail(EXIT_CRASHED)
                await asyncio.Event().wait()

    async def _on_assigned(self, sender: Any, assigned: Any, **_: Any) -> None:
        generation = int(self.app.consumer_generation_id)
        numbers = {tp.partition for tp in assigned if tp.topic in self.app.lane_topics}
        former = self._owned.partitions
        kept = former if generation == self._owned.generation + 1 else {}
        owned = _Ownership(generation)
        if self._spec.standby is not None:
            self._spec.standby.follow_all_but(numbers)
        for number in numbers:
            held = kept.get(number)
            if held is not None and _succeeded(held):
                held.result().state_log.move_to(generation)
                owned.partitions[number] = held
            else:
                owned.partitions[number] = asyncio.create_task(self._restore(number, generation))
        for number, task in former.items():
            if owned.partitions.get(number) is not task:
                task.cancel()  # also one that restores: it would take the log from the one that begins anew
        self._owned = owned
        self.progress.forgive(_steady_ms())
        log.info("generation %d owns partitions %s", generation, sorted(numbers))

    async def _restore(self, number: int, generation: int, lost: LostPartitionError | None = None) -> LanePartition:
        try:
            await self._prepared.wait()
            while True:
                if lost is not None:
                    log.error("%s; partition %d is restored from its log", lost, number)
                    self.counters.lost_partitions += 1
                    await self._confirmed()
                try:
                    return await self._take_over(number, generation)
                except LostPartitionError as error:
                    lost = error
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("partition %d could not be restored; ending the process", number)
            self._fail(EXIT_CRASHED)
            raise

    async def _take_over(self, number: int, generation: int) -> LanePartition:
        spec, standby = self._spec, self._spec.standby
        partition = await LanePartition.restore(
            number,
            spec.core_factory(number),
            self._publisher,
            self.counters,
            source=spec.source,
            generation=generation,
            now_ms=self._clock.now_ms(),
            afterwards=Afterwards(self._behind, spec.behind),
            alive=self._alive,
            copy=standby.lend(number) if standby is not None else None,
        )
        if spec.read_up is not None:
            # what a predecessor published, and on whose word, was written before: it can publish nothing new now
            await spec.read_up()
        # Paused in the middle of this, we may have lost the partition: then a rebalance cancels us here.
        await self._alive()
        await partition.claim()
        if standby is not None:
            standby.forget(number)
        return partition

    # -- batches --------------------------------------------------------------------------------

    async def _on_event(self, event: Any) -> None:
        batch: FetchedBatch = event.value
        task = self._owned.partitions.get(batch.partition)
        if task is None or event.message.generation_id != self._owned.generation:
            return  # fetched under an earlier ownership; whoever owns the partition now fetches it again
        await asyncio.wait({task})  # not cancelled with it: a rebalance begins another in its place
        if not _succeeded(task) or self._owned.partitions.get(batch.partition) is not task:
            return
        partition = task.result()
        if batch.fetch_offset > partition.expected(batch.topic) and not await self._may_jump(batch, partition):
            return
        partition.apply(batch, event, self._clock.now_ms())
        if self._spec.checkpoint_interval_ms == 0:
            self._checkpoint_soon(partition)

    async def _may_jump(self, batch: FetchedBatch, partition: LanePartition) -> bool:
        """A batch from beyond the expected offset: true only if what lies between is gone from the broker."""
        where = TopicPartition(batch.topic, batch.partition)
        expected = partition.expected(batch.topic)
        earliest = (await self.app.consumer.earliest_offsets(where))[where]
        if batch.fetch_offset <= earliest:
            if expected > 0:
                self.counters.lost_offsets += earliest - expected
                log.error(
                    "%s-%d: offsets %d to %d were deleted by retention before they were applied; raise the topic's"
                    " retention or add workers",
                    *where,
                    expected,
                    earliest - 1,
                )
            return True
        self.counters.mended_positions += 1
        log.warning("%s-%d: fetched from %d, but applied only to %d; going back", *where, batch.fetch_offset, expected)
        await self.app.consumer.seek(where, max(expected, earliest))
        return False

    # -- durability -----------------------------------------------------------------------------

    def _checkpoint_soon(self, partition: LanePartition) -> None:
        """Start a checkpoint beside the processing; it takes all that was applied until it starts."""
        job = asyncio.create_task(self._guarded(lambda: self._checkpoint(partition)))
        self._checkpoints.add(job)
        job.add_done_callback(self._checkpoints.discard)

    async def _checkpoint(self, partition: LanePartition) -> None:
        async def still_ours() -> bool:
            """Else it was lost meanwhile, and the successor works from what is durable."""
            await self._alive()
            return self._is_ours(partition)

        try:
            await partition.checkpoint(still_ours)
        except LostPartitionError as error:
            if self._is_ours(partition):
                self._begin_anew(partition, error)

    def _is_ours(self, partition: LanePartition) -> bool:
        task = self._owned.partitions.get(partition.number)
        return task is not None and _succeeded(task) and task.result() is partition

    def _begin_anew(self, partition: LanePartition, error: LostPartitionError) -> None:
        """Forget what was decided here: somebody else has taken over from what is durable.

        The group will mostly say so in a moment, and cancel this. Where it does not, nobody else may be there.
        """
        restoring = self._restore(partition.number, self._owned.generation, error)
        self._owned.partitions[partition.number] = asyncio.create_task(restoring)

    async def _confirmed(self) -> None:
        """Wait until the group has confirmed from now on that we are a member: else we would take what others own."""
        consumer: Any = self.app.consumer
        asked_at = _steady_ms()
        while self.app.rebalancing or consumer.silent_ms() >= _steady_ms() - asked_at:  # noqa: ASYNC110  # as _alive
            await asyncio.sleep(_TICK_MS / 1000)

    async def _alive(self) -> None:
        """Write nothing while the group may have given our partitions away: wait for the next heartbeat."""
        consumer: Any = self.app.consumer  # a LaneConsumer; Faust types it as its base
        while consumer.silent_ms() > self._spec.session_timeout_ms:  # noqa: ASYNC110  # the clock ends it, no event
            await asyncio.sleep(_TICK_MS / 1000)

    async def _flush_at_last(self) -> None:
        """Without a broker there is nothing to wait for: a successor does again what is not durable."""
        try:
            async with asyncio.timeout(_FLUSH_WITHIN_S):
                await self.flush()
        except (TimeoutError, KafkaError) as error:
            log.warning("the last checkpoint was not written (%r); a successor repeats from the one before", error)

    async def flush(self) -> None:
        """Checkpoint every partition now."""
        await asyncio.gather(*(self._checkpoint(partition) for partition in self._restored()))

    def _restored(self) -> Sequence[LanePartition]:
        tasks = self._owned.partitions.values()
        return [task.result() for task in tasks if _succeeded(task)]

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        due: dict[int, float] = {}
        interval_s = self._spec.checkpoint_interval_ms / 1000
        while True:
            await asyncio.sleep(_TICK_MS / 1000)
            for partition in self._restored():
                now_ms = self._clock.now_ms()
                deadline = partition.core.next_deadline()
                if deadline is not None and deadline <= now_ms:
                    partition.tick(now_ms)
                if partition.checkpoint_is_due(loop.time(), due.setdefault(partition.number, loop.time() + interval_s)):
                    due[partition.number] = loop.time() + interval_s
                    self._checkpoint_soon(partition)

    async def _watch_progress(self) -> None:
        """Faust can skip a batch or stall without an error; the broker's end offsets tell.

        A skipped batch is noticed by the next one, but on a quiet topic there may be none: an emergency would wait
        for it. So a partition that stands still before its end is first sought back, later the process restarts.
        """
        interval_ms = min(_STALL_CHECK_MS, self._spec.blind_after_ms // 4)
        while True:
            await asyncio.sleep(_LOOK_PAUSE_MS / 1000)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._looking_soon.wait(), (interval_ms - _LOOK_PAUSE_MS) / 1000)
            self._looking_soon.clear()
            if self.app.rebalancing or self._owned.generation < 0:
                self.progress.forgive(_steady_ms())
                continue
            try:
                await self._look()
            except (KafkaError, OSError) as error:
                # Without an answer nothing counts as having moved, so a lasting outage shows as blindness.
                log.warning("the ends of the input are not known: %s", error)

    async def _look(self) -> None:
        """Compare every partition's position with its end, and send back what stands still."""
        steady_ms, wall_ms = _steady_ms(), self._clock.now_ms()
        numbers = [one.number for one in self._restored()]
        self.progress.keep(numbers, self._spec.input_topics, steady_ms)
        where = [TopicPartition(topic, number) for topic in self._spec.input_topics for number in numbers]
        ends = await self.app.consumer.highwaters(*where) if where else {}
        for tp in where:
            position, one = self.position(tp.topic, tp.partition), self.progress.of(tp.partition, tp.topic)
            if position is None or one is None:
                continue  # lost meanwhile
            one.note(position, ends[tp], steady_ms=steady_ms, wall_ms=wall_ms)
            if position < ends[tp] and one.still_ms(steady_ms) >= _STALL_CHECK_MS:
                await self._mend_stall(tp, position, ends[tp], one.still_ms(steady_ms))

    async def _mend_stall(self, tp: TopicPartition, position: int, end: int, stalled_ms: int) -> None:
        if stalled_ms > self._spec.stall_timeout_ms:
            log.error("%s: no progress at %d of %d; ending the process for a restart", tp, position, end)
            self._fail(EXIT_STALLED)
        elif not self.app.rebalancing:
            self.counters.mended_positions += 1
            log.warning("%s: no progress at %d of %d for %d ms; fetching it again", tp, position, end, stalled_ms)
            await self.app.consumer.seek(tp, position)


def _steady_ms() -> int:
    """Milliseconds on a clock that never jumps; says nothing but how much time went by."""
    return int(time.monotonic() * 1000)


def _succeeded(task: asyncio.Task[LanePartition]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
