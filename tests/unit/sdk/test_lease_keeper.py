"""What a lease does to the gate, to work in flight and to the stop handler; and whose leases count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.coordinate.lease_table import LeaseState
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Command, Lease, Renewal
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.sdk.gate import Stopped
from emergency_stop.sdk.handlers import Handlers, current_stop
from emergency_stop.sdk.lease import LeaseHolder
from emergency_stop.sdk.lease_keeper import LEASE_LOST, LeaseKeeper, Surroundings
from emergency_stop.sdk.leases import LeaseTerms
from emergency_stop.sdk.permit import Permit, PermitGate
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import Signer, Verifier
from tests.unit.sdk.scenario import ACCOUNT, SERVICE, held, running
from tests.unit.wire.unanswering import Unanswering, newly_written

CODEC = Codec(LocalRegistry())
SIGNER, STRANGER = Signer.generate(), Signer.generate()
LEASE_MS, DELAY_MS = 30_000, 10_000
WALL_AT_START = 1_800_000_000_000
WITHIN_S = 10.0


class Kept:
    """A keeper whose clocks the test moves; the wall clock shows ``WALL_AT_START`` when the steady one shows 0."""

    def __init__(self, *, must_have: bool = True) -> None:
        self.steady = 0
        self.gate = PermitGate(SERVICE, self.wall)
        self.gate.loop = asyncio.get_running_loop()
        self.gate.open()
        self.handled: list[Command] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.announced = 0
        self.holds_are_read = asyncio.Event()
        self.holds_are_read.set()
        self.deaf = ""
        self.failures: list[str] = []
        self.keeper = LeaseKeeper(
            LeaseHolder(SERVICE, "i1", DELAY_MS),
            self.gate,
            Handlers(self._on_stop),
            CODEC,
            Verifier([SIGNER.public_key]),
            Surroundings(
                self.wall, lambda: self.steady, self._announce, lambda: self.deaf, self._read_up, self.failures.append
            ),
            must_have=must_have,
        )

    def wall(self) -> int:
        return WALL_AT_START + self.steady

    def _announce(self) -> None:
        self.announced += 1

    async def _read_up(self) -> None:
        await self.holds_are_read.wait()

    async def _on_stop(self, correlation_id: str) -> bool:
        command = current_stop()
        assert command is not None
        assert command.correlation_id == correlation_id
        self.handled.append(command)
        await self.may_end.wait()
        return True

    def renews(self, *, signer: Signer | None = SIGNER, partition: int = 0, partitions: int = 1) -> None:
        """A heartbeat goes out and comes back at once."""
        self.keeper.sending(self.wall())
        self.hears(self.lease(self.wall(), partition, partitions), signer=signer)

    def lease(self, heartbeat_at: int, partition: int = 0, partitions: int = 1) -> Lease:
        return Lease(partition, partitions, "c1", 0, LEASE_MS, (Renewal(SERVICE, "i1", heartbeat_at),))

    def hears(self, lease: Lease, *, signer: Signer | None = SIGNER) -> None:
        message = lease if signer is None else signer.sign(lease)
        self.keeper.on_lease(TailRecord(b"0", CODEC.encode(message, topics.LEASES), 0, 0, 0))

    def at(self, steady: int) -> None:
        self.steady = steady
        self.keeper._tick()

    @property
    def state(self) -> LeaseState:
        return self.keeper.holder.state

    @property
    def may_act(self) -> bool:
        try:
            with Permit(self.gate, "a"):
                return True
        except Stopped:
            return False


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    kept = Kept()
    yield kept
    kept.keeper.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # whatever a test waits for
            await asyncio.sleep(0.005)


async def test_new_actions_are_forbidden_first_and_those_in_flight_end_after_the_hold_delay(kept: Kept) -> None:
    kept.renews()
    assert kept.may_act
    ended: list[str] = []
    entered = asyncio.Event()

    async def work() -> None:
        try:
            async with Permit(kept.gate, "a"):
                entered.set()
                await asyncio.Event().wait()
        except Stopped as stopped:
            ended.append(stopped.reason)

    working = asyncio.create_task(work())
    await entered.wait()
    kept.at(29_999)
    assert kept.may_act
    kept.at(30_000)
    assert (kept.state, kept.may_act, len(kept.gate.in_flight_actions)) == (LeaseState.HOLDING, False, 1)
    kept.at(39_999)
    assert (len(kept.gate.in_flight_actions), kept.handled) == (1, [])
    kept.at(40_000)
    await until(lambda: bool(kept.handled))
    await working
    assert ended[0].startswith(LEASE_LOST)
    (command,) = kept.handled
    assert (command.action, command.level, command.scope) == (Action.STOP, StopLevel.IMMEDIATE, f"service:{SERVICE}")
    assert command.reason.startswith(LEASE_LOST)
    assert kept.keeper.lost_at == WALL_AT_START + 30_000
    assert kept.keeper.not_ready_because() == "no lease of the coordinator (lost)"


async def test_a_process_that_slept_through_its_lease_permits_nothing_though_no_timer_came(kept: Kept) -> None:
    kept.renews()
    kept.steady = 30_000
    assert not kept.may_act
    assert kept.state is LeaseState.HOLDING


async def test_a_fresh_lease_opens_the_gate_and_announces_it(kept: Kept) -> None:
    kept.renews()
    kept.at(35_000)
    announced = kept.announced
    kept.renews()
    await until(lambda: kept.may_act)
    assert (kept.state, kept.announced) == (LeaseState.HELD, announced + 1)
    assert (kept.keeper.lost_at, kept.keeper.not_ready_because()) == (None, "")


async def test_a_fresh_lease_waits_for_the_holds_that_were_there_before_it(kept: Kept) -> None:
    """It may be read before them, and vouches that they are on record."""
    kept.renews()
    kept.at(35_000)
    kept.holds_are_read.clear()
    kept.renews()
    await asyncio.sleep(0)
    assert (kept.state, kept.may_act) == (LeaseState.HELD, False)
    kept.gate.apply_hold(held(ACCOUNT), trusted=True)
    kept.holds_are_read.set()
    await until(lambda: not kept.gate.lacks_lease)
    assert not kept.may_act


async def test_a_lease_that_runs_out_while_holds_are_read_is_not_given_back(kept: Kept) -> None:
    kept.renews()
    kept.at(35_000)
    kept.holds_are_read.clear()
    kept.renews()
    kept.at(70_000)
    kept.holds_are_read.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert kept.gate.lacks_lease
    kept.renews()
    await until(lambda: kept.may_act)


async def test_a_lease_that_was_renewed_while_holds_are_read_is_not_given_back_once_it_has_run_out(kept: Kept) -> None:
    """::

    35 s         55 s       55 s       85 s        then the holds are read
    held, reads  warned     held       holding
    """
    kept.renews()
    kept.at(35_000)
    kept.holds_are_read.clear()
    kept.renews()
    await asyncio.sleep(0)
    kept.at(55_000)
    assert kept.keeper.holder.state == "warned"
    kept.renews()
    await asyncio.sleep(0)
    assert (kept.state, kept.may_act) == (LeaseState.HELD, False)
    kept.at(85_000)
    assert kept.keeper.holder.state == "holding"
    kept.holds_are_read.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert kept.gate.lacks_lease
    assert not kept.may_act
    kept.renews()
    await until(lambda: kept.may_act)


async def test_a_stop_handler_that_raises_a_cancellation_of_its_own_ends_the_services_own_stop(kept: Kept) -> None:
    async def cancels_its_own_worker(_: str) -> bool:
        worker = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        worker.cancel()
        return await worker

    kept.keeper._handlers.on_stop = cancels_its_own_worker
    kept.renews()
    kept.at(40_000)
    await until(lambda: not kept.keeper.is_stopping)
    kept.renews()
    await until(lambda: kept.may_act)
    assert kept.failures == []


async def test_whatever_ends_the_reading_of_holds_is_told_and_the_gate_stays_shut(kept: Kept) -> None:
    async def fails() -> None:
        raise OSError("broken")

    kept.renews()
    kept.at(35_000)
    object.__setattr__(kept.keeper._around, "read_up", fails)
    kept.renews()
    await until(lambda: bool(kept.failures))
    assert kept.failures == ["the lease's return ended unexpectedly (OSError: broken)"]
    assert not kept.may_act


async def test_a_fresh_lease_waits_for_the_stop_handler(kept: Kept) -> None:
    kept.may_end.clear()
    kept.renews()
    kept.at(40_000)
    await until(lambda: bool(kept.handled))
    kept.renews()
    assert not kept.may_act
    kept.may_end.set()
    await until(lambda: kept.may_act)
    assert (kept.state, len(kept.handled)) == (LeaseState.HELD, 1)


async def test_a_hold_that_came_meanwhile_is_still_in_force(kept: Kept) -> None:
    kept.renews()
    kept.at(35_000)
    kept.gate.apply_hold(held(ACCOUNT), trusted=True)
    kept.renews()
    assert kept.state is LeaseState.HELD
    await until(lambda: not kept.gate.lacks_lease)
    assert not kept.may_act
    kept.gate.apply_hold(running(ACCOUNT, epoch=2), trusted=True)
    assert kept.may_act


async def test_lifting_a_hold_gives_no_lease(kept: Kept) -> None:
    kept.renews()
    kept.gate.apply_hold(held(ACCOUNT), trusted=True)
    kept.at(35_000)
    kept.gate.apply_hold(running(ACCOUNT, epoch=2), trusted=True)
    assert not kept.may_act


@pytest.mark.parametrize("signer", [None, STRANGER], ids=["unsigned", "a stranger's"])
async def test_a_lease_that_cannot_be_trusted_renews_nothing(kept: Kept, signer: Signer | None) -> None:
    kept.renews(signer=signer)
    assert (kept.state, kept.keeper.untrusted) == (LeaseState.AWAITED, 1)
    assert "no lease that a trusted key has signed" in kept.keeper.missing()


async def test_a_lease_that_was_changed_renews_nothing(kept: Kept) -> None:
    kept.keeper.sending(7)
    signed = SIGNER.sign(kept.lease(6))
    forged = Lease(0, 1, "c1", 0, LEASE_MS, (Renewal(SERVICE, "i1", 7),), signed.key_id, signed.signature)
    kept.hears(forged, signer=None)
    assert (kept.state, kept.keeper.untrusted) == (LeaseState.AWAITED, 1)


async def test_what_cannot_be_read_is_counted_and_renews_nothing(kept: Kept) -> None:
    kept.keeper.on_lease(TailRecord(b"0", b"\0garbage", 0, 0, 0))
    kept.keeper.on_lease(TailRecord(b"0", None, 0, 1, 0))
    assert (kept.keeper.unreadable, kept.state) == (2, LeaseState.AWAITED)


async def test_what_cannot_be_read_yet_renews_nothing_and_the_next_lease_does(kept: Kept) -> None:
    kept.keeper._codec = Codec(Unanswering("Lease"))
    kept.keeper.sending(kept.wall())
    signed = SIGNER.sign(kept.lease(kept.wall()))
    kept.keeper.on_lease(TailRecord(b"0", newly_written(CODEC.encode(signed, topics.LEASES)), 0, 0, 0))
    assert (kept.keeper.unreadable, kept.state) == (1, LeaseState.AWAITED)
    kept.renews()
    assert kept.state is LeaseState.HELD


async def test_a_lease_counts_only_for_an_instance_that_hears_of_stops(kept: Kept) -> None:
    kept.renews()
    kept.steady = 10_000
    kept.deaf = "no answer from the broker about holds"
    kept.renews()
    assert kept.keeper.holder.until == LEASE_MS


async def test_what_is_missing_is_named(kept: Kept) -> None:
    assert kept.keeper.missing() == f"no coordinator has answered on {topics.LEASES}"
    kept.renews(partition=1, partitions=3)
    assert kept.keeper.missing() == "no lease of the coordinator's partitions 0, 2"
    assert kept.keeper.lost_at == WALL_AT_START, "it announces that it has none"


async def test_who_may_run_on_warns_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept(must_have=False)
    await kept.keeper.obtained()
    assert kept.may_act, "before the first lease too"
    kept.renews()
    kept.at(50_000)
    assert (kept.state, kept.may_act, kept.keeper.holder.times_lost) == (LeaseState.LOST, True, 1)
    assert (kept.handled, kept.keeper.not_ready_because()) == ([], "")
    assert "acts without a lease" in caplog.text
    kept.renews()
    assert kept.state is LeaseState.HELD
    kept.keeper.cancel()


async def test_heartbeats_that_are_too_rare_are_warned_of_once(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.renews()
    assert kept.keeper.beats_every_ms(14_999) == 5_000
    assert "too rare" not in caplog.text
    assert [kept.keeper.beats_every_ms(15_000) for _ in range(2)] == [5_000, 5_000]
    assert caplog.text.count("too rare") == 1


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (
            {"without_lease": "rum"},
            r"without_lease='rum' is unknown \(did you mean 'run'\?\); allowed: stop, run, ignore",
        ),
        ({"hold_delay_ms": -1}, "lease_hold_delay_ms=-1 is out of range; allowed: 0 to 600000"),
    ],
)
def test_wrong_terms_are_refused_with_what_is_allowed(terms: dict[str, str | int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LeaseTerms(**terms)  # type: ignore[arg-type]  # one of two kinds of wrong values
