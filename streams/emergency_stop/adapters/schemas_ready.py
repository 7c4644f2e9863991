"""Waiting for a schema registry before anything depends on it.

A registry over HTTP is asked on the first use of each schema, which blocks, and which may find it away. On the way of a
stop that must not be the moment, so whoever stops asks for all that it will write and read before it begins. From then
on only what somebody else wrote under another version's id asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from emergency_stop.domain.topics import TopicSpec
from emergency_stop.wire.registry import LocalRegistry, Registry, UnknownSchemaError
from emergency_stop.wire.registry_http import NotRegisteredError, RegistryError

log = logging.getLogger(__name__)

RETRY_MS: Final = 1_000


class SchemasReady:
    """The schemas of topics that are ``written``, and of those that are ``read``. Committed ones are there always.

    Of a topic that is only read, a schema that nobody has registered is not waited for: nobody writes it, and what is
    written under another version is asked for when it comes.
    """

    def __init__(self, registry: Registry, written: Iterable[TopicSpec], read: Iterable[TopicSpec] = ()) -> None:
        self._registry = registry
        self._written = tuple(written)
        self._read = tuple(read)
        #: What keeps ``ready``, for people; empty while nothing does.
        self.waits_for = ""

    async def ready(self) -> None:
        """Return once the registry has told all of them, however long that takes; logs what it waits for."""
        if isinstance(self._registry, LocalRegistry):
            return
        for spec in self._written:
            await self._told(spec, must_be_registered=True)
        for spec in self._read:
            await self._told(spec, must_be_registered=False)

    async def _told(self, spec: TopicSpec, *, must_be_registered: bool) -> None:
        while not await self._is_told(spec, must_be_registered=must_be_registered):  # noqa: ASYNC110  # its own answer
            await asyncio.sleep(RETRY_MS / 1000)
        if self.waits_for:
            log.info("the schema of %s is there", spec.name)
            self.waits_for = ""

    async def _is_told(self, spec: TopicSpec, *, must_be_registered: bool) -> bool:
        if spec.record is None:
            return True
        try:
            # beside the event loop, and one request at a time: whoever is told to end need not wait for all of them
            await asyncio.to_thread(_ask, self._registry, spec.record, spec.name)
        except (NotRegisteredError, UnknownSchemaError) as error:
            if not must_be_registered:
                log.warning("the schema of %s is asked for when it is needed: %s", spec.name, error)
                return True
            problem = str(error)
        except RegistryError as error:
            problem = str(error)
        else:
            return True
        if not self.waits_for:
            log.warning("waiting for the schema of %s before anything is begun: %s", spec.name, problem)
        self.waits_for = f"the schema of {spec.name}: {problem}"
        return False


def _ask(registry: Registry, record: str, topic: str) -> None:
    registry.writer_schema(registry.schema_id(record, topic))
