"""What must be there before the processes start: keys, topics, registered schemas, default triggers. Idempotent.

Tables are the sink's own business: it migrates at start.

Run by the `init` container of docker-compose.yml, with the settings of the processes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.apps.preparation import PreparationError, prepare_topics
from emergency_stop.config import EXIT_CONFIG, Settings, SettingsError
from emergency_stop.domain.topics import all_topics
from emergency_stop.wire.registry_http import HttpRegistry, RegistryError, register_committed
from emergency_stop.wire.signing import Signer
from emergency_stop.wire.trusted_keys import trust_keys

ATTEMPTS = 30
RETRY_DELAY_S = 2.0


def main() -> None:
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(*(f"init: {problem}" for problem in error.problems), sep="\n", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    _create_keys(settings)
    register = partial(_register, settings.registry_url, settings.services) if settings.registry_url else None
    try:
        found = asyncio.run(prepare_topics(settings, SystemClock().now_ms(), register))
    except (PreparationError, RegistryError) as error:
        sys.exit(f"init: {error}")
    print(f"topics: {len(found.created)} created, {len(settings.topics()) - len(found.created)} were there")
    print(f"triggers: {found.triggers} of the default pack brought into force beside the built-in ones")


def _create_keys(settings: Settings) -> None:
    """A signing key on first start, where one is configured; its public half for the services to verify with."""
    if settings.signing_key_file is None or settings.signing_key_file.exists():
        return
    signer = Signer.generate()
    signer.save(settings.signing_key_file)
    if settings.verify_keys_file is not None:
        trust_keys(settings.verify_keys_file, signer.public_pem())
    print(f"keys: generated {signer.key_id}")


def _register(url: str, services: tuple[str, ...]) -> None:
    """The registry may come up after the broker, and answers only once it has read its topic."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ids = register_committed(HttpRegistry(url), all_topics(services))
        except RegistryError as error:
            if attempt == ATTEMPTS:
                raise
            print(f"attempt {attempt} of {ATTEMPTS}: {error}")
            time.sleep(RETRY_DELAY_S)
        else:
            print(f"schemas: {len(ids)} subjects registered")
            return


if __name__ == "__main__":
    main()
