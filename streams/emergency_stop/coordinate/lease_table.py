"""The machine of an instance's lease, as data: whether it may act, as far as the coordinator's word goes.

``holding`` forbids new actions and lets those in flight go on; ``lost`` ends them. Whatever the holds say applies
besides. ``sdk/lease.py`` tells which event is due.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from emergency_stop.coordinate.tables import Machine


class LeaseState(StrEnum):
    #: No lease has come since the instance started.
    AWAITED = "awaited"
    HELD = "held"
    #: Two thirds of the lease are over.
    WARNED = "warned"
    HOLDING = "holding"
    LOST = "lost"


class LeaseEvent(StrEnum):
    RENEWED = "renewed"
    AGED = "aged"
    EXPIRED = "expired"
    DELAY_OVER = "delay_over"


LEASE: Final = Machine(
    "lease",
    LeaseState.AWAITED,
    {
        (LeaseState.AWAITED, LeaseEvent.RENEWED): LeaseState.HELD,
        (LeaseState.HELD, LeaseEvent.AGED): LeaseState.WARNED,
        (LeaseState.WARNED, LeaseEvent.RENEWED): LeaseState.HELD,
        (LeaseState.WARNED, LeaseEvent.EXPIRED): LeaseState.HOLDING,
        (LeaseState.HOLDING, LeaseEvent.RENEWED): LeaseState.HELD,
        (LeaseState.HOLDING, LeaseEvent.DELAY_OVER): LeaseState.LOST,
        (LeaseState.LOST, LeaseEvent.RENEWED): LeaseState.HELD,
    },
)
