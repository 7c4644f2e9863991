"""The phases in which one emergency comes after the other, as the report names them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Loss(StrEnum):
    """How a broker of a cluster goes. One that hangs keeps its connections, and answers nothing."""

    BOUNCED = "broker_bounced"
    KILLED = "broker_killed"
    HUNG = "broker_hung"


UNLOADED: Final = "unloaded"
LONE_BOUNCED: Final = "lone_broker_bounced"
OVERLOAD: Final = "overload"
REBALANCE: Final = "rebalance"
#: The only broker is restarted before the overload, whose gigabytes it would have to put away first.
ON_ONE_BROKER: Final = (UNLOADED, LONE_BOUNCED, OVERLOAD, REBALANCE)
ON_A_CLUSTER: Final = tuple(loss.value for loss in Loss)
