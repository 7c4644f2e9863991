"""What must be there before the processes start: keys, topics, registered schemas. Idempotent.

Tables are the sink's own business: it migrates at start.

Run by the `init` container of docker-compose.yml, with the settings of the processes.
"""

from __future__ import annotations

import asyncio
import time

from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import Settings
from emergency_stop.domain.topics import all_topics
from emergency_stop.wire.registry_http import HttpRegistry, RegistryError, register_committed
from emergency_stop.wire.signing import Signer
from emergency_stop.wire.trusted_keys import trust_keys

ATTEMPTS = 30
RETRY_DELAY_S = 2.0


def main() -> None:
    settings = Settings.from_env()
    _create_keys(settings)
    topics = settings.topics()
    created = asyncio.run(ensure_topics(settings.kafka, topics, replication=settings.replication_factor))
    print(f"topics: {len(created)} created, {len(topics) - len(created)} were there")
    if settings.registry_url is not None:
        print(f"schemas: {len(_register(settings.registry_url, settings.services))} subjects registered")


def _create_keys(settings: Settings) -> None:
    """A signing key on first start, where one is configured; its public half for the services to verify with."""
    if settings.signing_key_file is None or settings.signing_key_file.exists():
        return
    signer = Signer.generate()
    signer.save(settings.signing_key_file)
    if settings.verify_keys_file is not None:
        trust_keys(settings.verify_keys_file, signer.public_pem())
    print(f"keys: generated {signer.key_id}")


def _register(url: str, services: tuple[str, ...]) -> dict[str, int]:
    """The registry may come up after the broker, and answers only once it has read its topic."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return register_committed(HttpRegistry(url), all_topics(services))
        except RegistryError as error:
            if attempt == ATTEMPTS:
                raise
            print(f"attempt {attempt} of {ATTEMPTS}: {error}")
            time.sleep(RETRY_DELAY_S)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    main()
