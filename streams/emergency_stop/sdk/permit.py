"""The permit around one side effect, for ``async with`` and ``with``."""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, TypeVar

from emergency_stop.sdk.gate import REMEMBERED_ACCOUNTS_MAX, Gate, Shut, Stopped

T = TypeVar("T")


class PermitGate(Gate):
    """A gate with what permits need from outside: the loop that they run in, and a clock."""

    def __init__(self, service: str, now_ms: Callable[[], int]) -> None:
        super().__init__(service)
        #: The loop that permits are used in; ``None``: whichever runs.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.now_ms: Final = now_ms
        #: Asked before every action, while it is set, whether the lease has run out; if so, the gate is shut then.
        self.lapsed: Callable[[], bool] | None = None


class _Done:
    """An awaitable that is ready at once, cheaper than a coroutine; false, so that ``__exit__`` swallows nothing."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __await__(self) -> Generator[Any, Any, None]:
        return _NOTHING  # type: ignore[return-value]  # any exhausted iterator will do


_NOTHING: Final = iter(())
_DONE: Final = _Done()


class Permit:
    """Leave to act for one account, from entry to exit; made by ``StopGuard.permit``, used once.

    Entering raises ``Stopped`` where a stop applies, and where one is half open and does not admit this attempt. A
    stop that cancels work in flight cancels the task that entered; the ``CancelledError`` becomes ``Stopped`` at
    the exit, as ``asyncio.timeout`` does it, so a worker's loop handles both cases alike. Enter and exit in the
    same task.
    """

    __slots__ = ("_gate", "_task", "account_id")

    def __init__(self, gate: PermitGate, account_id: str | None) -> None:
        self._gate = gate
        self.account_id = account_id

    def __aenter__(self) -> _Done:
        gate = self._gate
        lapsed = gate.lapsed
        if gate.wide is not None or self.account_id in gate.accounts or (lapsed is not None and lapsed()):
            gate.check(self.account_id)
        self._task = current_task(gate.loop)
        gate.in_flight_actions.add(self)
        return _DONE

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> _Done:
        gate = self._gate
        gate.in_flight_actions.discard(self)
        gate.permitted += 1
        last_at = gate.last_at
        last_at[self.account_id] = gate.last_any_at = gate.now_ms()
        if len(last_at) > REMEMBERED_ACCOUNTS_MAX:
            gate.forget_oldest()
        if kind is not None:
            gate.note_failure(kind)
        if gate.watcher is not None:
            gate.watcher(self)
        if gate.revoked:
            self._explain(kind, error)
        return _DONE

    # The same two serve a plain ``with``: what they return is awaitable for the one and false for the other.
    __enter__ = __aenter__
    __exit__ = __aexit__

    def revoke(self) -> bool:
        """Cancel the task that entered. See ``InFlight.revoke``."""
        return self._task is not None and self._task.cancel()

    def _explain(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        """Take back our cancellations. Where no other is left, a ``CancelledError`` becomes ``Stopped``."""
        revocation = self._gate.revoked.pop(self, None)
        if revocation is None or self._task is None:
            return
        others = self._task.cancelling()
        for _ in range(revocation.times):
            others = self._task.uncancel()
        if others == 0 and kind is asyncio.CancelledError:
            raise Stopped(revocation.shut, self.account_id) from error


class OpenPermit(Permit):
    """Leave to act that outlives the task which asked for it, like a connection that several tasks read from.

    In flight from ``begin`` to ``end``, in whichever tasks. A stop does not cancel a task: it calls ``cut``,
    perhaps more than once, which must make the action end soon, and returns whether it could.
    """

    __slots__ = ("_cut", "_shut")

    def __init__(self, gate: PermitGate, account_id: str | None, cut: Callable[[], bool]) -> None:
        super().__init__(gate, account_id)
        self._cut = cut
        self._shut: Shut | None = None

    def begin(self) -> None:
        """Raises ``Stopped`` where a stop applies and does not admit this attempt."""
        self.__enter__()
        self._task = None

    def end(self, error: BaseException | None = None) -> None:
        """The action is over, with ``error`` where it failed. Called once; raises nothing."""
        self._shut = self.shut
        self.__exit__(None if error is None else type(error), error, None)

    @property
    def shut(self) -> Shut | None:
        """The stop that has cut the action; ``None`` where none has."""
        revocation = self._gate.revoked.get(self)
        return revocation.shut if revocation else self._shut

    def revoke(self) -> bool:
        return self._cut()


async def finish(work: Awaitable[T]) -> T:
    """Await something that must not be left half done, like a request that is already on the wire.

    A cancellation waits for it, then goes on. Used within a permit, it keeps the action in flight until
    it is known to be over: a STOPPED never overtakes a side effect.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if future.cancelled():
                raise
            cancelled = error
        except BaseException:  # noqa: BLE001, S110  # future.result() raises it below
            pass
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # retrieved, so that the loop does not complain
        raise cancelled
    return future.result()
