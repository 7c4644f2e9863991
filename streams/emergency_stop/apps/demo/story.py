"""The demo's plot: telemetry of 200 accounts, an incident of every kind, bad input, one stop and resume by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.embedded_broker import BrokerUnavailableError
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.apps.demo.verdict import (
    Verdict,
    instances_stopped,
    percentiles,
    side_effects_after_stop,
    times_to_stop_ms,
)
from emergency_stop.apps.demo.witness import Analyst, Witness
from emergency_stop.apps.dev import say, uses_embedded_broker
from emergency_stop.apps.produce.bad_inputs import NAMES
from emergency_stop.apps.produce.generator import INCIDENTS, TelemetryGenerator
from emergency_stop.apps.produce.run import TelemetrySender, sealing, send_bad
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.apps.stack.child import StackError
from emergency_stop.apps.stack.stack import Stack
from emergency_stop.config import EXIT_CONFIG, Settings, SettingsError
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Request
from emergency_stop.domain.values import AckState, Action, EmergencyState, HoldState, Scope, StopLevel
from emergency_stop.integrations.run import account_names
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry

SEED: Final = 20
_ACCOUNTS: Final = 200
_RATE: Final = 400.0
_SECONDS: Final = 15.0
_SERVICE_RATE: Final = 40.0
_STEP_MS: Final = 20
_WITHIN_MS: Final = 60_000
_TELEMETRY_TABLES: Final = tuple(TABLES[spec.record or ""] for spec in topics.TELEMETRY)
_ENDED: Final = (EmergencyState.STOPPED, EmergencyState.PARTIAL)


def run_demo(settings: Settings, seconds: float = _SECONDS) -> int:
    """Run the story with ``seconds`` of telemetry; blocking. One line of JSON on standard output.

    Returns 0 only if every promise was kept, 78 for wrong settings.
    """
    with tempfile.TemporaryDirectory(prefix="estop-demo-") as folder:
        # A process that reported its own load would make the count of events run away from its end.
        own = replace(settings, data_dir=Path(folder), health_monitoring_interval_ms=1_000, usage_report_ms=0)
        try:
            verdict = asyncio.run(_tell(own, seconds))
        except (BrokerUnavailableError, StackError, TimeoutError) as error:
            say(f"estop demo: {error}")
            return 1
        except (KafkaSignInError, SettingsError) as error:
            say(f"estop demo: {error}")
            return EXIT_CONFIG
    failures = verdict.failures()
    for failure in failures:
        say(f"NOT AS PROMISED: {failure}")
    print(json.dumps(verdict.as_json()), flush=True)
    return 1 if failures else 0


async def _tell(settings: Settings, seconds: float) -> Verdict:
    async with Stack(settings, say, embedded=uses_embedded_broker(), accounts=_ACCOUNTS, rate=_SERVICE_RATE) as stack:
        registry = build_registry(stack.settings.registry_url)
        codec = Codec(registry)
        witness = Witness(stack.settings.kafka, registry, codec)
        publisher = KafkaPublisher(stack.settings.kafka, client_id="estop-demo")
        await publisher.start()
        await witness.start()
        try:
            story = _Story(stack, witness, publisher, codec)
            async with sealing(stack.settings, "estop-demo", registry) as keyring:
                await story.produce(TelemetrySender(publisher, registry, keyring), seconds)
            await story.stop_and_resume_by_hand()
            return await story.judge()
        finally:
            await witness.stop()
            await publisher.stop()


class _Story:
    def __init__(self, stack: Stack, witness: Witness, publisher: KafkaPublisher, codec: Codec) -> None:
        self._stack = stack
        self._witness = witness
        self._publisher = publisher
        self._codec = codec
        self._clock = SystemClock()
        #: Records of telemetry, bad ones too.
        self._sent = 0

    async def produce(self, sender: TelemetrySender, seconds: float) -> None:
        """Normal telemetry throughout; the incidents, one after another, on accounts of their own."""
        accounts = account_names(_ACCOUNTS)
        sender.want(accounts)
        generator = TelemetryGenerator(SEED, accounts)
        say(f"producing telemetry of {_ACCOUNTS} accounts at {_RATE:g} events/s for {seconds:g} s (seed {SEED})")
        pending = {
            (position + 1) * seconds * 1000 / (len(INCIDENTS) + 2): (kind, accounts[10 + position])
            for position, kind in enumerate(INCIDENTS)
        }
        started, made = self._clock.now_ms(), 0
        send_bad(sender, generator, accounts[-1], started, len(NAMES))
        self._sent += len(NAMES)
        say(f"  and {len(NAMES)} kinds of bad input among it")
        # every incident, also where this process did not get its turn before the end
        while (elapsed_ms := self._clock.now_ms() - started) < seconds * 1000 or pending:
            for moment in [moment for moment in pending if moment <= elapsed_ms]:
                kind, account = pending.pop(moment)
                say(f"  incident: {kind} on {account}")
                for event in generator.incident(kind, account, self._clock.now_ms()):
                    await sender.send_sealed(event)
                    self._sent += 1
            while made < _RATE * elapsed_ms / 1000:
                await sender.send_sealed(generator.normal(self._clock.now_ms()))
                made += 1
            await sender.drain_if_full()
            await asyncio.sleep(_STEP_MS / 1000)
        await sender.drain()
        self._sent += made

    async def stop_and_resume_by_hand(self) -> None:
        """What an operator does: stop one account, see the proof, lift the hold, see the work go on."""
        scope = str(Scope.account(account_names(_ACCOUNTS)[3]))
        say(f"an operator stops {scope}")
        await self._request(scope, Action.STOP, None)
        await self._witness.until("the manual stop's proof", lambda: self._is_proven(scope), _WITHIN_MS)
        epoch = self._witness.holds[scope].epoch
        say(f"  proven stopped at epoch {epoch}; the operator resumes it")
        await self._request(scope, Action.RESUME, epoch)
        await self._witness.until("the resumed account's activity", lambda: scope in self._resumed(), _WITHIN_MS)
        say("  it works again")

    async def _request(self, scope: str, action: Action, epoch: int | None) -> None:
        now_ms = self._clock.now_ms()
        request = Request(
            request_id=str(uuid.uuid4()), action=action, scope=scope, level=StopLevel.IMMEDIATE, services=("all",),
            reason="demonstration", requested_by="estop demo", requested_at=now_ms, correlation_id=f"demo-{now_ms}",
            epoch=epoch,
        )  # fmt: skip
        value = self._codec.encode(request, topics.REQUESTS)
        await self._publisher.publish(topics.REQUESTS, scope.encode(), value)

    def _is_proven(self, scope: str) -> bool:
        found = [one for one in self._witness.emergencies.values() if one.scope == scope]
        return bool(found) and all(one.state in _ENDED for one in found) and scope in self._witness.holds

    def _resumed(self) -> set[str]:
        """Scopes whose hold is lifted, whose services all said so, and where work was seen again."""
        resumed: set[str] = set()
        for scope, hold in list(self._witness.holds.items()):
            acks = [ack for ack in list(self._witness.acks) if ack.scope == scope and ack.state is AckState.RESUMED]
            said_so = {ack.service for ack in acks}
            if hold.state is not HoldState.RUNNING or said_so != set(self._stack.settings.services):
                continue
            since = max(ack.acked_at for ack in acks)
            account = scope.partition(":")[2]
            if any(one.account_id == account and one.performed_at >= since for one in list(self._witness.activity)):
                resumed.add(scope)
        return resumed

    async def judge(self) -> Verdict:
        """Wait until everything has settled, then compute."""
        witness, analyst = self._witness, Analyst(self._stack.settings.data_dir)
        say("waiting until every stop has ended and ClickHouse has every event")
        causes = len(INCIDENTS) + 1
        await witness.until(f"{causes} emergencies that ended", lambda: self._all_ended(causes), _WITHIN_MS)
        # The witness reads each topic on its own, so none of them may be taken for read because another one is.
        await witness.until("all that was sent", lambda: witness.good + witness.bad >= self._sent, _WITHIN_MS)
        with contextlib.suppress(TimeoutError):  # the verdict says what lacks
            await witness.until("every instance's proof", self._all_proven, _WITHIN_MS)
        await witness.until(
            "every event in ClickHouse", lambda: analyst.totals(_TELEMETRY_TABLES)[1] >= witness.good, _WITHIN_MS
        )
        await witness.until("a dead letter per bad input", lambda: len(witness.dead_letters) >= witness.bad, _WITHIN_MS)
        return self._verdict(analyst)

    def _all_ended(self, at_least: int) -> bool:
        emergencies = list(self._witness.emergencies.values())
        return len(emergencies) >= at_least and all(one.state in _ENDED or one.completed_at for one in emergencies)

    def _all_proven(self) -> bool:
        stopped, total = instances_stopped(list(self._witness.emergencies.values()), list(self._witness.acks))
        return stopped == total

    def _verdict(self, analyst: Analyst) -> Verdict:
        witness = self._witness
        every_table = tuple(sorted({*TABLES.values(), "dead_letters"}))
        rows, origins = analyst.totals(every_table)
        stopped, total = instances_stopped(witness.emergencies.values(), witness.acks)
        return Verdict(
            events_produced=witness.good,
            events_in_clickhouse=analyst.totals(_TELEMETRY_TABLES)[0],
            duplicates_in_clickhouse=rows - origins,
            hits=len(witness.hits),
            emergencies=len(witness.emergencies),
            services_stopped=stopped,
            services_total=total,
            side_effects_after_stop=side_effects_after_stop(witness.acks, witness.activity),
            time_to_stop_ms=percentiles(times_to_stop_ms(witness.emergencies.values(), witness.acks)),
            bad_inputs=witness.bad,
            dead_lettered=len(witness.dead_letters),
            resumed=len(self._resumed()),
        )
