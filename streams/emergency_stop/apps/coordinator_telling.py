"""What a coordinator's partition tells people and subscribers: notices and lifecycle events, behind all that stops.

Nothing here may keep a stop from going out or from being made durable: a fault is logged and counted, topics
that do not exist are left out, and nobody waits for what is written (``apps.lane_afterwards``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from emergency_stop.apps.coordinator_metrics import CoordinatorMetrics
from emergency_stop.coordinate.lifecycle_events import LifecycleTeller
from emergency_stop.coordinate.notices import notices_of
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.messages import Hit, Lifecycle, Notice
from emergency_stop.domain.topics import LIFECYCLE, NOTICES
from emergency_stop.ports import Publish
from emergency_stop.wire.codec import Codec

log = logging.getLogger(__name__)

TOLD: tuple[str, ...] = (NOTICES, LIFECYCLE)


class Telling:
    """Keeps what was handed out to be published, until it was; then it is told. Not thread-safe."""

    def __init__(self, codec: Codec, metrics: CoordinatorMetrics, topics: Collection[str] = TOLD) -> None:
        """``topics``: those of ``TOLD`` that exist."""
        self._codec = codec
        self._metrics = metrics
        self._topics = frozenset(topics)
        self._teller = LifecycleTeller()
        self._effects: list[Effect | Hit | Notice] = []
        #: Of hits that were taken; told behind what they led to.
        self._evaluated: list[Lifecycle] = []

    def hit(self, hit: Hit) -> None:
        """A hit was taken."""
        self._evaluated += self._teller.of_hit(hit)

    def handed_out(self, effects: Iterable[Effect | Hit | Notice]) -> None:
        """These are about to be published; a ``Notice`` among them is told as it is."""
        self._effects += effects

    def published(self) -> list[Publish]:
        """What there is to tell of all that was handed out and is published by now; each once."""
        effects, self._effects = self._effects, []
        hits, self._evaluated = self._evaluated, []
        return [
            *self._told(NOTICES, lambda: _notices(effects)),
            *self._told(LIFECYCLE, lambda: [*hits, *self._events(effects)]),
        ]

    def of_refusals(self, effects: Sequence[Effect]) -> list[Publish]:
        """Notices of what rests on no change of state, and so is published at once."""
        return self._told(NOTICES, lambda: notices_of(effects))

    def _events(self, effects: Sequence[Effect | Hit | Notice]) -> list[Lifecycle]:
        decided = [effect for effect in effects if not isinstance(effect, (Hit, Notice))]
        return [event for effect in publishable(decided) for event in self._teller.of_effect(effect)]

    def _told(self, topic: str, make: Callable[[], Sequence[Notice | Lifecycle]]) -> list[Publish]:
        if topic not in self._topics:
            return []
        try:
            return [Publish(topic, _key(one), self._codec.encode(one, topic)) for one in make()]
        except Exception:
            self._metrics.telling_failed(topic)
            log.exception("nothing was written to %s; what it would have told of is", topic)
            return []


def _notices(effects: Sequence[Effect | Hit | Notice]) -> list[Notice]:
    ready = [effect for effect in effects if isinstance(effect, Notice)]
    return [*ready, *notices_of([effect for effect in effects if not isinstance(effect, Notice)])]


def _key(message: Notice | Lifecycle) -> bytes:
    return (message.subject if isinstance(message, Notice) else message.scope).encode()
