"""Publishing beside the stop path: what is recorded of evaluations, on a connection of its own.

The worker hands over hits and evaluations together, and makes both durable before the state that they led to. Hits go
on their connection as ever. Evaluations wait here for theirs, within bounds: a topic that is missing, or a broker that
refuses them, delays a checkpoint once, for ``PATIENCE_S``, and then costs evaluations, which are counted, and nothing
else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Final

from aiokafka.errors import KafkaError

from emergency_stop.domain.topics import EVALUATIONS
from emergency_stop.ports import Publish, Publisher

log = logging.getLogger(__name__)

#: How long a write may take before its records are given up.
PATIENCE_S: Final = 5.0
#: Records that wait to be written; past it new ones are given up.
WAITING_MAX: Final = 10_000
#: Records that are written at once.
_TOGETHER_MAX: Final = 500
#: After a failure, so that a topic that is missing is not asked for all the time.
_PAUSE_S: Final = 1.0


class EvaluationQueue:
    """Evaluations on their way to the broker. ``run`` never ends, and must be running for anything to be written."""

    def __init__(self, publisher: Publisher, *, patience_s: float = PATIENCE_S) -> None:
        self._publisher = publisher
        self._patience_s = patience_s
        self._waiting: deque[tuple[Sequence[Publish], asyncio.Future[None]]] = deque()
        self._records = 0
        self._news = asyncio.Event()
        self._failing = False
        #: Since start.
        self.written = 0
        self.given_up = 0

    def offer(self, records: Sequence[Publish]) -> asyncio.Future[None]:
        """Take records; the future ends when they are acknowledged or given up, and never raises. While writing fails
        it ends at once.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._records + len(records) > WAITING_MAX:
            self.given_up += len(records)
            done.set_result(None)
            return done
        self._records += len(records)
        self._waiting.append((records, done))
        self._news.set()
        if self._failing:
            done.set_result(None)
        return done

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._write_some()

    async def _write_some(self) -> None:
        taken: list[tuple[Sequence[Publish], asyncio.Future[None]]] = []
        count = 0
        while self._waiting and (not taken or count + len(self._waiting[0][0]) <= _TOGETHER_MAX):
            taken.append(self._waiting.popleft())
            count += len(taken[-1][0])
        self._records -= count
        try:
            together = [record for records, _ in taken for record in records]
            await asyncio.wait_for(self._publisher.publish_all(together), self._patience_s)
        except (TimeoutError, KafkaError, OSError) as error:
            self.given_up += count
            if not self._failing:
                log.warning(
                    "%d records of %s were given up (%s: %s), and so are others until it can be written; look whether"
                    " the topic exists (estop check) and the detector may write to it. Hits are not concerned",
                    count, EVALUATIONS, type(error).__name__, error,
                )  # fmt: skip
            self._failing = True
        else:
            self.written += count
            self._failing = False
        finally:
            for _, done in taken:
                if not done.done():
                    done.set_result(None)
        if self._failing:
            for _, done in self._waiting:
                if not done.done():
                    done.set_result(None)
            await asyncio.sleep(_PAUSE_S)


class BesidePublisher(Publisher):
    """A ``ports.Publisher`` for the worker: evaluations go to ``queue``, all else to ``publisher``, and first."""

    def __init__(self, publisher: Publisher, queue: EvaluationQueue) -> None:
        self._publisher = publisher
        self._queue = queue

    def publish_all(self, records: Sequence[Publish]) -> Awaitable[None]:
        """See ``ports.Publisher``; what is given up of evaluations raises nothing."""
        beside = [one for one in records if one.topic == EVALUATIONS]
        if not beside:
            return self._publisher.publish_all(records)
        first = [one for one in records if one.topic != EVALUATIONS]
        sent = [self._publisher.publish_all(first)] if first else []
        return _all_of([*sent, self._queue.offer(beside)])

    def append(self, records: Sequence[Publish]) -> Awaitable[Sequence[int]]:
        """See ``ports.Publisher``; of evaluations nobody asks for offsets."""
        return self._publisher.append(records)


def _all_of(sent: Sequence[Awaitable[None]]) -> Awaitable[None]:
    async def wait() -> None:
        await asyncio.gather(*sent)

    return wait()
