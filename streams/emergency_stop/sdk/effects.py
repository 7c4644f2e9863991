"""What the pure cores of the SDK want done."""

from __future__ import annotations

from dataclasses import dataclass

from emergency_stop.domain.messages import Ack, Command


@dataclass(frozen=True, slots=True)
class RunHandler:
    """Call the service's handler for ``command``'s action once; its outcome goes to ``Stops.on_handled``."""

    command: Command


Effect = Ack | RunHandler
