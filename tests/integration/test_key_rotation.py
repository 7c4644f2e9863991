"""A change of keys while everything runs, typed as an operator types it; and what is recorded and sent again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.config import EXIT_CONFIG
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_REFUSED, EXIT_UNAVAILABLE
from emergency_stop.domain import topics
from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import Command, Hold
from emergency_stop.domain.values import Action, EmergencyState, StopLevel
from emergency_stop.sdk import KeyFileVerifier, StopGuard
from emergency_stop.wire.signing import SignatureVerdict
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import request, resume

pytestmark = pytest.mark.needs("broker")
NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Terminal:
    """Types ``estop …`` with the key files of an office."""

    def __init__(self, folder: Path, brokers: str) -> None:
        self.folder = folder
        self.signing, self.trusted = folder / "signing.pem", folder / "verify.pem"
        self._env = {**os.environ, "ESTOP_BROKERS": brokers, "ESTOP_DATA_DIR": str(folder)}
        self._env["ESTOP_VERIFY_KEYS_FILE"] = str(self.trusted)

    async def types(self, *arguments: str, **variables: str) -> Outcome:
        def run() -> Outcome:
            command = [sys.executable, "-m", "emergency_stop.control.cli.main", *arguments]
            ended = subprocess.run(
                command, env=self._env | variables, capture_output=True, text=True, timeout=90, check=False
            )
            return Outcome(ended.returncode, ended.stdout, ended.stderr)

        return await asyncio.to_thread(run)

    async def says(self, *arguments: str, **variables: str) -> Any:
        outcome = await self.types(*arguments, "--json", **variables)
        assert outcome.code == EXIT_OK, outcome
        return json.loads(outcome.out)


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    """A coordinator, and services that follow the file of trusted keys."""
    async with CoordinatorOffice(broker, tmp_path) as opened, AsyncExitStack() as stack:
        opened.start(ESTOP_VERIFY_KEYS_FILE=str(tmp_path / "verify.pem"))
        opened.verifier = KeyFileVerifier(tmp_path / "verify.pem")
        for service in SERVICES:
            guard = StopGuard(service, broker, verifier=opened.verifier)
            await stack.enter_async_context(guard)
            opened.guards[service] = guard
        yield opened


async def test_a_change_of_keys_in_its_three_steps(office: CoordinatorOffice, tmp_path: Path) -> None:
    operator = Terminal(tmp_path, office.brokers)
    (old,) = (await operator.says("keys", "list"))["trusted"]
    await _stops(office, "r1")
    first = _newest_hold(office)
    assert first.key_id == old

    made = await operator.says("keys", "generate", str(tmp_path / "next.pem"))
    new = made["key_id"]
    await _the_coordinator_keeps_its_key(office, operator, tmp_path)
    assert (await operator.says("keys", "trust", str(tmp_path / "next.pem")))["added"] == [new]
    await until(lambda: f"signing with key {new} from now on" in office.log(), "the new key signs")
    refused = await operator.types("keys", "retire", old)
    assert refused.code == EXIT_REFUSED, refused
    assert "the newest hold, of account:a" in refused.err
    assert "is signed with it" in refused.err

    await _resumes(office, "r2", first.epoch)
    lifted = _newest_hold(office)
    assert lifted.key_id == new
    refused = await operator.types("keys", "retire", new)
    assert (refused.code, "is signed with it" in refused.err) == (EXIT_REFUSED, True), refused
    assert (await operator.says("keys", "retire", old[:8]))["trusted"] == [new]
    await _is_replayed(office, old)
    guards = office.guards.values()
    await until(lambda: {guard.stats.untrusted for guard in guards} == {2}, "recorded command and hold are told apart")


async def _the_coordinator_keeps_its_key(office: CoordinatorOffice, operator: Terminal, folder: Path) -> None:
    """The steps in the wrong order: signing with what nobody trusts yet."""
    (folder / "copy.pem").write_bytes((folder / "next.pem").read_bytes())
    (folder / "copy.pem").replace(operator.signing)
    office.hang_up()
    await until(lambda: "does not trust: services would refuse every resume" in office.log(), "refused")


async def _stops(office: CoordinatorOffice, request_id: str) -> None:
    stop = request(request_id, scope="account:a", level=StopLevel.IMMEDIATE, requested_at=now_ms())
    await office.send(stop)
    await _reaches(office, EmergencyState.STOPPED)
    # each topic is read on its own: the end of the emergency may be seen before what led to it
    await until(lambda: office.hold("account:a"), "held")
    assert all(guard.stopped_by("a") is not None for guard in office.guards.values())


async def _resumes(office: CoordinatorOffice, request_id: str, epoch: int) -> None:
    await office.send(resume(request_id, epoch, scope="account:a"))
    await _reaches(office, EmergencyState.RESOLVED)
    await until(lambda: not any(guard.stopped_by("a") for guard in office.guards.values()), "they work again")
    await until(lambda: _newest_hold(office).epoch > epoch, "lifted")
    await until(lambda: office.commands[-1].action is Action.RESUME, "commanded")
    signed = {office.commands[-1].key_id, _newest_hold(office).key_id}
    assert len(signed) == 1


async def _reaches(office: CoordinatorOffice, state: EmergencyState) -> None:
    cause = emergency_id(request_cause("r1"))

    def reached() -> bool:
        found = office.emergency(cause)
        return found is not None and found.state is state

    await until(reached, state.value, 60)


def _newest_hold(office: CoordinatorOffice) -> Hold:
    found = office.hold("account:a")
    assert found is not None
    return found


async def _is_replayed(office: CoordinatorOffice, old: str) -> None:
    """Whoever recorded the old key's commands: the same ones do nothing, forged ones stop and never resume."""
    guards = list(office.guards.values())
    await until(lambda: all(g.stats.stops_under_way == 0 for g in guards), "quiet")
    held = next(hold for hold in office.holds if hold.key_id == old)
    await until(lambda: office.verifier.verify(held) is SignatureVerdict.UNKNOWN_KEY, "the old key is not trusted")
    before = [guard.stats for guard in guards]
    recorded = [command for command in office.commands if command.key_id == old and command.action is Action.STOP]
    assert {command.service for command in recorded} == set(SERVICES)
    for command in recorded:
        await _sends(office, command)
    await until(lambda: all(g.stats.commands == b.commands + 1 for g, b in zip(guards, before, strict=True)), "read")
    assert not any(guard.stopped_by("a") for guard in guards), "a command that was answered is no new stop"

    await office.publisher.publish(topics.HOLDS, held.scope.encode(), office.codec.encode(held, topics.HOLDS))
    # it is obeyed, but not for long: the coordinator says the newest hold again as soon as an older one follows it
    told_apart = [one.untrusted + 1 for one in before]
    await until(lambda: [guard.stats.untrusted for guard in guards] >= told_apart, "a recorded stop is told apart")
    await until(lambda: not any(guard.stopped_by("a") for guard in guards), "lifted by the trusted key")


async def _sends(office: CoordinatorOffice, command: Command) -> None:
    topic = topics.commands_topic(command.service)
    await office.publisher.publish(topic, command.scope.encode(), office.codec.encode(command, topic))


async def test_what_an_operator_does_wrong_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Files alone; no broker answers."""
    operator = Terminal(tmp_path, NOWHERE)
    made = await operator.says("keys", "generate", str(operator.signing))
    assert operator.signing.stat().st_mode & 0o077 == 0
    again = await operator.types("keys", "generate", str(operator.signing))
    assert (again.code, "a key is never overwritten" in again.err) == (EXIT_REFUSED, True), again
    (tmp_path / "public.pem").write_text(made["public_pem"])
    assert (await operator.says("keys", "trust", str(tmp_path / "public.pem")))["added"] == [made["key_id"]]
    signs = {"ESTOP_SIGNING_KEY_FILE": str(operator.signing)}
    assert (await operator.says("keys", "list", **signs))["signing"] == made["key_id"]
    for arguments, code, told in (
        (("retire", made["key_id"], "--offline"), EXIT_REFUSED, "ESTOP_SIGNING_KEY_FILE="),
        (("retire", "beef", "--offline"), EXIT_BAD_INPUT, "no key 'beef'"),
        (("trust", str(tmp_path / "none.pem")), EXIT_CONFIG, "cannot be read"),
    ):
        outcome = await operator.types("keys", *arguments, **signs)
        assert (outcome.code, told in outcome.err) == (code, True), outcome
    outcome = await operator.types("keys", "retire", made["key_id"])
    assert (outcome.code, "--offline" in outcome.err) == (EXIT_UNAVAILABLE, True), outcome
    last = await operator.types("keys", "retire", made["key_id"], "--offline")
    assert (last.code, "is the only one" in last.err) == (EXIT_REFUSED, True), last


@pytest.mark.parametrize("command", [("coordinator",), ("service", "sessionManager")])
async def test_wrong_key_files_end_a_process_with_78(tmp_path: Path, command: tuple[str, ...]) -> None:
    operator = Terminal(tmp_path, NOWHERE)
    operator.trusted.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    wrong = {"ESTOP_SIGNING_KEY_FILE": str(operator.trusted)}
    outcome = await operator.types(*command, **wrong)
    assert outcome.code == EXIT_CONFIG, outcome
    assert "verify.pem holds" in outcome.err
