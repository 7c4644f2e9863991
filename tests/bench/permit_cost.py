"""What a permit costs while many holds are in force, in this process and without a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final

from emergency_stop.adapters.clock import steady_ms
from emergency_stop.domain.messages import Hold, HoldCause, Lease, Renewal
from emergency_stop.domain.values import HoldState, StopLevel
from emergency_stop.sdk import StopGuard

HOLDS: Final = 100_000
PERMITS: Final = 2_000
COST_US_MAX: Final = 2.0
#: What an empty context manager costs on a quiet core of the kind that the bound was set for.
EMPTY_QUIET_US: Final = 0.3
GIVE_UP_AFTER_S: Final = 15.0
LEASE_MS: Final = 600_000
ASYNC_WITH, WITH, EMPTY_WITH = "async with", "with", "empty with"


class Empty:
    __slots__ = ("account_id",)

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


async def permit_costs_us(holds: int = HOLDS) -> dict[str, float]:
    """The best round of each form, µs: rounds are repeated until the bound is met, or for ``GIVE_UP_AFTER_S``."""
    guard = _guard(holds)

    async def asynchronously() -> None:
        for _ in range(PERMITS):
            async with guard.permit("acc-000001"):
                pass

    async def plainly() -> None:
        for _ in range(PERMITS):
            with guard.permit("acc-000001"):
                pass

    async def empty() -> None:
        for _ in range(PERMITS):
            with Empty("acc-000001"):
                pass

    best = dict.fromkeys((ASYNC_WITH, WITH, EMPTY_WITH), float("inf"))
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    while max(best[ASYNC_WITH], best[WITH]) > COST_US_MAX and time.monotonic() < deadline:
        for form, use in zip(best, (asynchronously, plainly, empty), strict=True):
            best[form] = min(best[form], await _cost_us(use))
    return best


def _guard(holds: int) -> StopGuard:
    """Open and with a lease, with ``holds`` accounts held; never started: no broker is asked."""
    guard = StopGuard("sessionManager", "127.0.0.1:9")
    guard._gate.loop = asyncio.get_running_loop()
    keeper = guard._leases._keeper
    assert keeper is not None
    keeper.sending(1)
    renewal = Renewal("sessionManager", guard.instance_id, 1)
    keeper.holder.renew(Lease(0, 1, "coordinator", 1, LEASE_MS, (renewal,)), steady_ms())
    guard._gate.open()
    assert guard.stopped_by() is None
    for number in range(holds):
        scope = f"account:held-{number}"
        cause = HoldCause(f"e-{number}", StopLevel.GRACEFUL, ("all",), "held", 1)
        guard._gate.apply_hold(Hold(scope, 1, HoldState.HELD, StopLevel.GRACEFUL, (cause,), "held", 0), trusted=True)
    return guard


async def _cost_us(use: Callable[[], Awaitable[None]]) -> float:
    """The thread's own time, µs: a permit waits for nothing, and what other processes take is not its cost."""
    start = time.thread_time()
    await use()
    return (time.thread_time() - start) / PERMITS * 1e6
