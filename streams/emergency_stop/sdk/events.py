"""``LifecycleEvents``: hear what happens, from ``estop.lifecycle``, under the guide's names.

Theory of operation. One tail reads the topic, from its end or its beginning, and finds it again after an outage. Each
subscriber has a queue of its own, so that one that is slow delays no other; but nothing is dropped: when the fullest
queue has ``WAITING_MAX`` events, no more is fetched until its subscriber caught up. An event comes once to each,
whatever the coordinator repeats: ids are remembered, the newest ``IDS_MAX`` of them. To one that began to listen
between an event and its repeat after a crash, the repeat is the event: ``at`` tells when it happened.

Nothing here stops anything. Who must stop uses ``StopGuard``; an event may come late, a hold does not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.config import did_you_mean
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain.messages import Lifecycle
from emergency_stop.domain.topics import LIFECYCLE
from emergency_stop.domain.values import LifecycleKind, Scope
from emergency_stop.sdk.background import is_told_to_end
from emergency_stop.sdk.sign_in import signed_in
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import LocalRegistry, Registry, UnknownSchemaError

log = logging.getLogger(__name__)

EventHandler = Callable[[Lifecycle], Awaitable[None] | None]

START_MS: Final = 60_000
WAITING_MAX: Final = 1_000
IDS_MAX: Final = 100_000
_LOOK_S: Final = 1.0
_NAMES: Final = tuple(kind.value for kind in LifecycleKind)


class EventsStartError(RuntimeError):
    """The topic could not be read, so events would be missed. The text says what to look at."""


@dataclass(frozen=True, slots=True)
class EventStats:
    """What was read so far; ``failed`` counts handlers that raised."""

    received: int
    repeated: int
    unreadable: int
    failed: int


@dataclass(frozen=True, slots=True)
class _Filter:
    kinds: frozenset[LifecycleKind]
    scope: str | None
    account_id: str | None

    def lets(self, event: Lifecycle) -> bool:
        return (
            event.event in self.kinds
            and self.scope in (None, event.scope)
            and self.account_id in (None, event.account_id)
        )


class EventStream:
    """Events one by one: ``async for event in stream``. It ends when its ``LifecycleEvents`` is stopped.

    What is no longer referred to is no longer waited for.
    """

    def __init__(self, wanted: _Filter, took: Callable[[], None]) -> None:
        self.wanted: Final = wanted
        self._took = took
        self._waiting: deque[Lifecycle] = deque()
        self._arrived = asyncio.Event()
        self._has_ended = False

    def __len__(self) -> int:
        """How many events wait."""
        return len(self._waiting)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Lifecycle:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        self._took()
        return self._waiting.popleft()

    def put(self, event: Lifecycle) -> None:
        self._waiting.append(event)
        self._arrived.set()

    def end(self) -> None:
        """What waits is still handed out; then the stream is over."""
        self._has_ended = True
        self._arrived.set()


class LifecycleEvents:
    """An async context manager; within it events come. All methods belong to one event loop.

    Without ``from_start`` only what happens after ``start`` returned comes, and all of that. Lost brokers are waited
    for, and what happened meanwhile is read then.
    """

    def __init__(self, brokers: str | Brokers, *, from_start: bool = False, registry: Registry | None = None) -> None:
        self._brokers = signed_in(brokers)
        self._from_start = from_start
        self._codec = Codec(registry or LocalRegistry())
        #: Weak: a loop that was left must not keep the others waiting.
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._handlers: dict[EventStream, EventHandler] = {}
        self._tasks: dict[EventStream, asyncio.Task[None]] = {}
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._has_room = asyncio.Event()
        self._is_running = False
        self._received = self._repeated = self._unreadable = self._failed = 0
        self._tail = CompactedTail(
            self._brokers, LIFECYCLE, self._take, client_id=f"estop-events-{uuid.uuid4().hex[:8]}",
            from_end=not from_start, room=self._room,
        )  # fmt: skip

    @property
    def stats(self) -> EventStats:
        return EventStats(self._received, self._repeated, self._unreadable, self._failed)

    def on(
        self,
        event: str | LifecycleKind,
        handler: EventHandler,
        *,
        scope: str | Scope | None = None,
        account_id: str | None = None,
    ) -> Callable[[], None]:
        """Call ``handler`` for every such event, in order; what is returned ends that.

        It may be sync or async; one that raises is logged, and called for the next event all the same. Raises
        ``ValueError`` for a name that no event has.
        """
        stream = self.stream(event, scope=scope, account_id=account_id)
        self._handlers[stream] = handler
        if self._is_running:
            self._serve(stream)
        return lambda: self._take_off(stream)

    def stream(
        self, *events: str | LifecycleKind, scope: str | Scope | None = None, account_id: str | None = None
    ) -> EventStream:
        """What comes from now on, one by one; all events where none is named. Raises ``ValueError`` as ``on``."""
        kinds = frozenset(map(_kind, events)) or frozenset(LifecycleKind)
        wanted = _Filter(kinds, None if scope is None else str(Scope.parse(str(scope))), account_id)
        stream = EventStream(wanted, self._has_room.set)
        self._streams.add(stream)
        return stream

    def __aiter__(self) -> EventStream:
        return self.stream()

    async def start(self, within_ms: int = START_MS) -> None:
        """Begin to read. Without ``from_start`` it returns once nothing that happens can be missed any more.

        Raises ``EventsStartError`` where that did not come about within ``within_ms``.
        """
        self._is_running = True
        for stream in self._handlers:
            self._serve(stream)
        await self._tail.start()
        if self._from_start:
            return
        try:
            await asyncio.wait_for(self._tail.caught_up(or_refused=True), within_ms / 1000)
        except KafkaSignInError as error:
            await self.stop()
            raise EventsStartError(f"{LIFECYCLE} cannot be read: {error}") from error
        except TimeoutError:
            await self.stop()
            raise EventsStartError(
                f"{LIFECYCLE} could not be read from {self._brokers} within {within_ms / 1000:g} s; look whether the"
                " broker answers and the topic exists ('estop check' names what is missing)"
            ) from None

    async def stop(self) -> None:
        """Read no more, and cancel handlers that are at work; streams end behind what they have. Idempotent."""
        self._is_running = False
        await self._tail.stop()
        for stream in [*self._streams]:
            stream.end()
        tasks, self._tasks = [*self._tasks.values()], {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --------------------------------------------------------------------------------------------- reading

    def _take(self, record: TailRecord) -> None:
        try:
            event = self._codec.decode(Lifecycle, record.value)
        except (WireError, UnknownSchemaError) as error:
            self._unreadable += 1
            log.warning("%s-%d offset %d was skipped: %s", LIFECYCLE, record.partition, record.offset, error)
            return
        if event.event_id in self._ids:
            self._repeated += 1
            return
        self._ids[event.event_id] = None
        if len(self._ids) > IDS_MAX:
            self._ids.popitem(last=False)
        self._received += 1
        for stream in self._streams:
            if stream.wanted.lets(event):
                stream.put(event)

    async def _room(self) -> None:
        while max(map(len, self._streams), default=0) >= WAITING_MAX:
            self._has_room.clear()
            # a stream that nobody refers to any more says nothing when it goes, so this looks again by itself
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_room.wait(), _LOOK_S)

    # ------------------------------------------------------------------------------------------- handlers

    def _serve(self, stream: EventStream) -> None:
        if stream not in self._tasks:
            self._tasks[stream] = asyncio.create_task(self._handle(stream, self._handlers[stream]))

    async def _handle(self, stream: EventStream, handler: EventHandler) -> None:
        async for event in stream:
            try:
                outcome = handler(event)
                if inspect.isawaitable(outcome):
                    await outcome
            except (Exception, asyncio.CancelledError) as error:
                # whatever is wrong with a handler, the next event may be the one that matters
                if isinstance(error, asyncio.CancelledError) and is_told_to_end():
                    raise
                self._failed += 1
                log.exception("a handler of %s raised; it is called for the next event all the same", event.event.value)

    def _take_off(self, stream: EventStream) -> None:
        self._handlers.pop(stream, None)
        self._streams.discard(stream)
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()


def _kind(name: str | LifecycleKind) -> LifecycleKind:
    if name not in _NAMES:
        raise ValueError(f"event {name!r} is unknown{did_you_mean(str(name), _NAMES)}; allowed: {', '.join(_NAMES)}")
    return LifecycleKind(name)
