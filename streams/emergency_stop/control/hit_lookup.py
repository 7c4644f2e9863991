"""The hit that somebody means: by its id, by its emergency's, or by how either begins."""

from __future__ import annotations

from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.control.installation import Installation
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError

PREFIX_MIN: Final = 6


async def find_hit(installation: Installation, named: str) -> Hit | str:
    """The hit, or why there is none that is meant. Raises ``UnavailableError``."""
    if len(named) < PREFIX_MIN:
        return f"HIT={named!r}: is too short; give {PREFIX_MIN} characters or more"
    found: dict[str, Hit] = {}

    def take(record: TailRecord) -> None:
        try:
            hit = installation.codec.decode(Hit, record.value)
        except (WireError, UnknownSchemaError):
            return
        names = (hit.hit_id, emergency_id(hit_cause(hit.hit_id)))
        if any(name.startswith(named) for name in names):
            found[hit.hit_id] = hit

    await installation.scan(HITS, take)
    if len(found) != 1:
        listed = f": {', '.join(sorted(found))}" if found else "; a stop by hand has no hit ('estop emergencies')"
        return f"{len(found) or 'no'} hits begin with {named!r}{listed}"
    return next(iter(found.values()))
