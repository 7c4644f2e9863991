"""How a service signs in at the brokers: as it is told, or as its environment says."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from emergency_stop.config import Settings
from emergency_stop.config.kafka import Brokers, KafkaSecurityError, problems

_PREFIX: Final = "ESTOP_KAFKA_"


def signed_in(brokers: str | Brokers) -> Brokers:
    """``Brokers`` as they stand; addresses alone sign in as ``ESTOP_KAFKA_SECURITY_PROTOCOL`` and its like say.

    Raises ``ValueError`` with all that is wrong: at construction, while somebody looks.
    """
    if isinstance(brokers, str):
        own = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
        return replace(Settings.from_env(own).kafka, addresses=brokers)
    found = problems(brokers.security)
    if found:
        raise KafkaSecurityError("; ".join(found))
    return brokers
