"""Does what the last resort's core decides: posts, and puts on record what became of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka.errors import KafkaError

from emergency_stop.apps.notifier.channels import LastResortPost
from emergency_stop.apps.notifier.last_resort import AT_ONCE_MAX, LastResort, Outcome, audit_of, notice_of
from emergency_stop.apps.notifier.metrics import NotifierMetrics
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Emergency
from emergency_stop.ports import Clock, DeliveryError, Publish, Publisher
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import RegistryError

log = logging.getLogger(__name__)

RETRY_MS: Final = 1_000


class Resorting:
    """Belongs to one event loop; posts run in threads of its own, so that none keeps the loop."""

    def __init__(
        self, post: LastResortPost, publisher: Publisher, codec: Codec, clock: Clock, metrics: NotifierMetrics
    ) -> None:
        self._post = post
        self._publisher = publisher
        self._codec = codec
        self._clock = clock
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="last-resort")

    def close(self) -> None:
        """Posts that are under way end; none begins any more. Does not wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def begin(self, resort: LastResort, standing: Mapping[str, Emergency], now_ms: int) -> Sequence[Emergency]:
        """The first look at all emergencies, once they were read: what is gone needs nothing, all others are new."""
        for emergency_id in resort.missing(standing):
            resort.drop(emergency_id, now_ms)
        return list(standing.values())

    def work(
        self, resort: LastResort, changed: Sequence[Emergency], now_ms: int
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """What is to be done now, each a task of its own: emergencies that need the last resort, or no longer do."""
        for emergency in changed:
            yield self._record_outcome(resort, resort.observe(emergency, now_ms))
        for emergency in resort.due(now_ms):
            yield self._revoke(resort, emergency, now_ms)

    async def _revoke(self, resort: LastResort, emergency: Emergency, now_ms: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            detail = await loop.run_in_executor(self._threads, lambda: self._post.send(emergency, now_ms))
        except DeliveryError as error:
            self._metrics.resort_failed()
            log.error("last resort for %s (%s): %s", emergency.scope, emergency.emergency_id, error)  # noqa: TRY400
            await self._record_outcome(resort, resort.failed(emergency, str(error), self._clock.now_ms()))
        else:
            await self._record_outcome(resort, resort.succeeded(emergency, detail, self._clock.now_ms()))

    async def _record_outcome(self, resort: LastResort, outcome: Outcome | None) -> None:
        """On record, and a page, before the state says so: a crash in between does it all again, under the same ids."""
        if outcome is None:
            return
        log.warning(
            "last resort for %s (%s) is %s: %s",
            outcome.emergency.scope, outcome.emergency.emergency_id, outcome.standing.value, outcome.detail,
        )  # fmt: skip
        self._metrics.resort_ended(outcome)
        while True:
            try:
                await self._publisher.publish_all(self._records_of(outcome))
            except (KafkaError, RegistryError) as error:
                log.warning("an outcome is not on record yet (%s); trying again in %d ms", error, RETRY_MS)
                await asyncio.sleep(RETRY_MS / 1000)
            else:
                resort.recorded(outcome)
                return

    def _records_of(self, outcome: Outcome) -> list[Publish]:
        audit, notice = audit_of(outcome), notice_of(outcome)
        records = [Publish(topics.AUDIT, audit.subject.encode(), self._codec.encode(audit, topics.AUDIT))]
        if notice is not None:
            records.append(Publish(topics.NOTICES, notice.subject.encode(), self._codec.encode(notice, topics.NOTICES)))
        return records
