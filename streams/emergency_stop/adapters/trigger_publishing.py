"""Publishing versions of triggers: into their history first, then into force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from emergency_stop.domain.topics import TRIGGER_HISTORY, TRIGGERS, trigger_history_key
from emergency_stop.domain.triggers import Trigger
from emergency_stop.ports import Publisher
from emergency_stop.wire.codec import Codec

#: How many records may be on their way: enough to fill requests, few enough for memory.
UNDER_WAY_MAX: Final = 5_000


async def publish_versions(
    publisher: Publisher, codec: Codec, versions: Sequence[Trigger], superseded: Sequence[Trigger] = ()
) -> None:
    """Bring ``versions`` into force, in order; on return every in-sync replica has them.

    Their history is durable before the first comes into force, and so is that of the ``superseded`` versions, which
    may be older than the history. After an error some may be in force; publishing the same again does no harm.
    """
    await _publish(publisher, codec, TRIGGER_HISTORY, (*superseded, *versions), _history_key)
    await _publish(publisher, codec, TRIGGERS, versions, lambda trigger: trigger.trigger_id)


def _history_key(trigger: Trigger) -> str:
    return trigger_history_key(trigger.trigger_id, trigger.version)


async def _publish(
    publisher: Publisher, codec: Codec, topic: str, versions: Sequence[Trigger], key: Callable[[Trigger], str]
) -> None:
    for start in range(0, len(versions), UNDER_WAY_MAX):
        await asyncio.gather(
            *(
                publisher.publish(topic, key(trigger).encode(), codec.encode(trigger, topic))
                for trigger in versions[start : start + UNDER_WAY_MAX]
            )
        )
