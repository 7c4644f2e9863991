"""What ``estop.holds`` tells of every scope: its newest epoch, and whether its last record is an older one.

A coordinator that stood still with a record on its way may write it after its successor has written newer ones. The
topic is compacted, so in time the last record is all that remains, and would be the state. Its owner says the newest
again.
"""

from __future__ import annotations

from collections.abc import Mapping

from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import HoldState

_ACCOUNTS = "account:"


class PublishedHolds:
    """Changes in place; about 150 bytes for every scope that was ever held."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._overtaken: dict[str, int] = {}
        self._wide: dict[str, Hold] = {}
        self._times = 0

    @property
    def epochs(self) -> Mapping[str, int]:
        """The newest epoch by scope, whoever wrote it."""
        return self._epochs

    def has(self, scope: str, epoch: int) -> bool:
        """Whether the scope's hold of ``epoch`` was read, or a newer one, which says all that it said."""
        return self._epochs.get(scope, 0) >= epoch

    @property
    def overtaken(self) -> Mapping[str, int]:
        """Scopes whose last record is older than one before it, each with a number that no other occasion has."""
        return self._overtaken

    @property
    def wide(self) -> Mapping[str, Hold]:
        """The holds in force that reach beyond one account, by scope: of everything, or of a service."""
        return self._wide

    def take(self, hold: Hold) -> None:
        """The next record of the topic, in the order of its partition."""
        if hold.epoch < self._epochs.get(hold.scope, 0):
            self._times += 1
            self._overtaken[hold.scope] = self._times
        else:
            self._epochs[hold.scope] = hold.epoch
            self._overtaken.pop(hold.scope, None)
            if hold.state is HoldState.RUNNING:
                self._wide.pop(hold.scope, None)
            elif not hold.scope.startswith(_ACCOUNTS):
                self._wide[hold.scope] = hold
