"""What shuts a scope, how several such things add up, and the exception that says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from emergency_stop.domain.values import LEVEL_SEVERITY, StopLevel


@dataclass(frozen=True, slots=True)
class Shut:
    """Why a scope may not act. ``emergency_id`` is empty where no emergency is behind it."""

    scope: str
    epoch: int
    level: StopLevel
    reason: str
    emergency_id: str = ""
    #: Half open: how much of the work is admitted all the same, percent; 0: nothing.
    percent: int = 0


class Stopped(Exception):
    """An action is not permitted, or was cancelled because a stop came. Carries what stands in its way."""

    def __init__(self, shut: Shut, account_id: str | None) -> None:
        super().__init__(shut, account_id)
        self.scope = shut.scope
        self.level = shut.level
        self.epoch = shut.epoch
        self.reason = shut.reason
        self.emergency_id = shut.emergency_id
        self.account_id = account_id
        self._percent = shut.percent

    def __str__(self) -> str:
        # made where somebody reads it: a loop that waits for its account is refused again and again
        subject = "this service" if self.account_id is None else f"account {self.account_id}"
        state = f"half open, {self._percent} % of its work admitted" if self._percent else "stopped"
        return (
            f"{subject} may not act: {self.scope} is {state} ({self.level.value}, epoch {self.epoch}): {self.reason};"
            " try again after the hold has been lifted"
        )


def severity(shut: Shut | None) -> int:
    """0 where nothing is shut."""
    return 0 if shut is None else LEVEL_SEVERITY[shut.level]


def worse(first: Shut, second: Shut) -> Shut:
    """The more severe of two; of equals the one that admits less, of equals the first."""
    return max(first, second, key=_rank)


def worst(shuts: Iterable[Shut | None]) -> Shut | None:
    """The ``worse`` of any number; ``None`` where there is none."""
    return max((shut for shut in shuts if shut is not None), key=_rank, default=None)


def together(shuts: Iterable[Shut | None]) -> Shut | None:
    """All of them at once: the worst, which admits no more than any of them does."""
    present = [shut for shut in shuts if shut is not None]
    if len(present) <= 1:
        return present[0] if present else None
    most = max(present, key=_rank)
    least = min(shut.percent for shut in present)
    return most if most.percent == least else replace(most, percent=least)


def as_strict(first: Shut | None, second: Shut | None) -> bool:
    """Whether both stop as much: as severely, and admitting as much; or neither stops anything."""
    if first is None or second is None:
        return first is second
    return _rank(first) == _rank(second)


def _rank(shut: Shut) -> tuple[int, int]:
    return LEVEL_SEVERITY[shut.level], -shut.percent
