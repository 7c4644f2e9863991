"""The producer's shell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.account_keys import AccountKeyring
from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.apps.produce.bad_inputs import broken_messages
from emergency_stop.apps.produce.generator import INCIDENTS, RECORDS, TelemetryEvent, TelemetryGenerator
from emergency_stop.config import EXIT_CONFIG, Settings, did_you_mean
from emergency_stop.domain import topics
from emergency_stop.integrations.run import account_names
from emergency_stop.ports import Publisher
from emergency_stop.wire.codec import encode_record
from emergency_stop.wire.registry import Registry
from emergency_stop.wire.registry_http import build_registry
from emergency_stop.wire.sensitive import has_sensitive
from emergency_stop.wire.signing import KeyFileError

log = logging.getLogger(__name__)

_STEP_MS: Final = 20
_IN_FLIGHT_MAX: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProduceOptions:
    """What to produce. ``incidents`` are ``KIND`` or ``KIND:ACCOUNT``; ``replay`` excludes everything else."""

    accounts: int = 100
    rate: float = 100.0
    count: int | None = None
    seconds: float | None = None
    seed: int = 0
    incidents: tuple[str, ...] = ()
    bad: int = 0
    replay: Path | None = None


class TelemetrySender:
    """Encodes and publishes; ``drain`` waits for the broker's acknowledgements."""

    def __init__(self, publisher: Publisher, registry: Registry, keyring: AccountKeyring | None = None) -> None:
        """With a ``keyring``, which must be started, ``send_sealed`` seals sensitive fields."""
        self._publisher = publisher
        self._registry = registry
        self._keyring = keyring
        self._pending: list[Awaitable[None]] = []
        self.sent = 0

    def schema_id(self, topic: str) -> int:
        return self._registry.schema_id(RECORDS[topic], topic)

    def want(self, account_ids: Iterable[str]) -> None:
        """Have keys made for accounts whose events are about to be sent, all at once."""
        if self._keyring is not None:
            for account_id in account_ids:
                self._keyring.want(account_id)

    async def send_sealed(self, event: TelemetryEvent) -> None:
        """``send``, with what is sensitive sealed where there are keys."""
        if self._keyring is not None and has_sensitive(event.record, event.fields):
            event = replace(event, fields=await self._keyring.seal(event.record, event.fields))
        self.send(event)

    def send(self, event: TelemetryEvent) -> None:
        """Send an event as it is."""
        value = encode_record(event.record, event.fields, self.schema_id(event.topic))
        self.send_raw(event.topic, str(event.fields["account_id"]).encode(), value)

    def send_raw(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        self._pending.append(self._publisher.publish(topic, key, value))
        self.sent += 1

    async def drain(self) -> None:
        pending, self._pending = self._pending, []
        await asyncio.gather(*pending)

    async def drain_if_full(self) -> None:
        if len(self._pending) >= _IN_FLIGHT_MAX:
            await self.drain()


def send_bad(sender: TelemetrySender, generator: TelemetryGenerator, account: str, now_ms: int, count: int) -> None:
    """``count`` broken messages, of every kind in turn."""
    event = generator.incident("suspension-risk", account, now_ms)[0]
    fields = {**event.fields, "risk_score": 1.0}
    kinds = broken_messages(fields, sender.schema_id(topics.TELEMETRY_HEALTH))
    for key, value in islice(cycle(kinds.values()), count):
        sender.send_raw(topics.TELEMETRY_HEALTH, key, value)


def run_produce(settings: Settings, options: ProduceOptions) -> int:
    """Produce until the count or time is reached (neither: until interrupted); blocking. Prints a summary."""
    problems = _problems(options)
    if problems:
        for problem in problems:
            log.error(problem)
        return EXIT_CONFIG
    try:
        sent, unreadable = asyncio.run(_produce(settings, options))
    except KeyFileError as error:
        log.error("ESTOP_PRIVACY_KEYS: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_CONFIG
    except KafkaSignInError as error:
        log.error("nothing is produced: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_CONFIG
    summary = {"sent": sent, "seed": options.seed}
    if settings.privacy_keys_file is not None:
        summary["unreadable"] = unreadable
    print(json.dumps(summary))  # noqa: T201  (the command's result)
    return 0


def _problems(options: ProduceOptions) -> list[str]:
    kinds = tuple(INCIDENTS)
    return [
        f"--incident {name} is unknown{did_you_mean(name, kinds)}; allowed: {', '.join(kinds)}, or KIND:ACCOUNT"
        for name in (text.partition(":")[0] for text in options.incidents)
        if name not in kinds
    ]


async def _produce(settings: Settings, options: ProduceOptions) -> tuple[int, int]:
    """(events sent, how many of them were sealed with a key that is lost)."""
    name, registry = f"estop-produce-{settings.instance_id}", build_registry(settings.registry_url)
    async with sealing(settings, name, registry) as keyring:
        publisher = KafkaPublisher(settings.kafka, client_id=name, linger_ms=5)
        await publisher.start()
        sender = TelemetrySender(publisher, registry, keyring)
        try:
            if options.replay is not None:
                await _replay(sender, options.replay)
            else:
                await _generate(sender, options)
            await sender.drain()
        finally:
            await publisher.stop()
        return sender.sent, keyring.unreadable if keyring else 0


@contextlib.asynccontextmanager
async def sealing(settings: Settings, client_id: str, registry: Registry) -> AsyncIterator[AccountKeyring | None]:
    """A running keyring where the settings name master keys. Raises ``KeyFileError``."""
    if settings.privacy_keys_file is None:
        yield None
        return
    keyring = AccountKeyring(settings.kafka, settings.privacy_keys_file, client_id=client_id, registry=registry)
    await keyring.start()
    try:
        yield keyring
    finally:
        await keyring.stop()


async def _generate(sender: TelemetrySender, options: ProduceOptions) -> None:
    clock, accounts = SystemClock(), account_names(options.accounts)
    generator = TelemetryGenerator(options.seed, accounts)
    sender.want(accounts)
    for number, text in enumerate(options.incidents):
        kind, _, account = text.partition(":")
        for event in generator.incident(kind, account or accounts[number % len(accounts)], clock.now_ms()):
            await sender.send_sealed(event)
    send_bad(sender, generator, accounts[0], clock.now_ms(), options.bad)
    started, made = clock.now_ms(), 0
    while True:
        elapsed_ms = clock.now_ms() - started
        if options.seconds is not None and elapsed_ms >= options.seconds * 1000:
            return
        due = int(options.rate * elapsed_ms / 1000)
        if options.count is not None:
            due = min(due, options.count)
        while made < due:
            await sender.send_sealed(generator.normal(clock.now_ms()))
            made += 1
        if options.count is not None and made >= options.count:
            return
        await sender.drain_if_full()
        await asyncio.sleep(_STEP_MS / 1000)


async def _replay(sender: TelemetrySender, path: Path) -> None:
    """Lines of ``{"topic": …, "fields": {…}}``, in order; a bad line is named and stops the replay."""
    for number, line in enumerate(await asyncio.to_thread(_lines, path), 1):
        if not line.strip():
            continue
        try:
            entry: dict[str, Any] = json.loads(line)
            await sender.send_sealed(TelemetryEvent(entry["topic"], entry["fields"]))
        except (ValueError, KeyError, TypeError) as error:
            await sender.drain()
            reason = f"{type(error).__name__}: {error}"
            raise SystemExit(f"{path}:{number}: {reason}; nothing after this line was sent") from error
        await sender.drain_if_full()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
