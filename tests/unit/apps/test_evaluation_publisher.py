"""Evaluations beside the stop path: nothing that becomes of them keeps a hit from the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from aiokafka.errors import UnknownTopicOrPartitionError

from emergency_stop.apps import evaluation_publisher
from emergency_stop.apps.evaluation_publisher import BesidePublisher, EvaluationQueue
from emergency_stop.domain.topics import EVALUATIONS, HITS
from emergency_stop.ports import Publish, Publisher

WITHIN_S = 10.0
HIT, EVALUATION = Publish(HITS, b"k", b"hit"), Publish(EVALUATIONS, b"k", b"evaluation")


class Broker(Publisher):
    """Takes records of some topics, and of the others none: ``refused`` says how."""

    def __init__(self, refused: str | None = None) -> None:
        self.taken: list[Publish] = []
        self.refused = refused

    def publish_all(self, records: Sequence[Publish]) -> Awaitable[None]:
        return asyncio.ensure_future(self._take(records))

    def append(self, records: Sequence[Publish]) -> Awaitable[Sequence[int]]:
        raise AssertionError("nobody asks here where evaluations lie")

    async def _take(self, records: Sequence[Publish]) -> None:
        if self.refused == "at once":
            raise UnknownTopicOrPartitionError
        if self.refused == "never answered":
            await asyncio.Event().wait()
        self.taken += records


async def test_hits_and_evaluations_are_both_durable_when_the_worker_is_told_so() -> None:
    hits, beside = Broker(), Broker()
    queue = EvaluationQueue(beside)
    running = asyncio.create_task(queue.run())
    await asyncio.wait_for(BesidePublisher(hits, queue).publish_all([HIT, EVALUATION, HIT]), WITHIN_S)
    assert (hits.taken, beside.taken) == ([HIT, HIT], [EVALUATION])
    assert (queue.written, queue.given_up) == (1, 0)
    running.cancel()


async def test_hits_are_acknowledged_whatever_becomes_of_evaluations() -> None:
    for refused in ("at once", "never answered"):
        hits, beside = Broker(), Broker(refused)
        queue = EvaluationQueue(beside, patience_s=0.05)
        running = asyncio.create_task(queue.run())
        publisher = BesidePublisher(hits, queue)
        for number in range(1, 4):
            await asyncio.wait_for(publisher.publish_all([HIT, EVALUATION]), WITHIN_S)
            assert hits.taken == [HIT] * number
        assert queue.given_up >= 1
        running.cancel()


async def test_while_nothing_can_be_written_nobody_waits_for_it_again() -> None:
    """The first write takes as long as patience lasts; those after it are not waited for, until one succeeds."""
    beside = Broker("never answered")
    queue = EvaluationQueue(beside, patience_s=0.05)
    running = asyncio.create_task(queue.run())
    await asyncio.wait_for(queue.offer([EVALUATION]), WITHIN_S)
    assert queue.offer([EVALUATION]).done()
    beside.refused = None
    async with asyncio.timeout(WITHIN_S):
        while not queue.written:  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0.01)
    assert not queue.offer([EVALUATION]).done(), "it is waited for again"
    running.cancel()


async def test_what_waits_is_bounded() -> None:
    queue = EvaluationQueue(Broker())
    for _ in range(evaluation_publisher.WAITING_MAX):
        assert not queue.offer([EVALUATION]).done()
    assert queue.offer([EVALUATION]).done()
    assert queue.given_up == 1
