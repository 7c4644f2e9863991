"""Bugs planted on purpose, each in one core: a judge that does not find them would find no other.

A bug is a mutated core (``Parts``), or a function of one put in another's place while it is planted.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from emergency_stop.coordinate import cascade, holds, instances, lifecycle, resume, step
from emergency_stop.coordinate.instances import all_proved
from emergency_stop.coordinate.lifecycle import Change
from emergency_stop.coordinate.state import Case, Effect, ScopeState, Target, World
from emergency_stop.coordinate.tables import Phase, Standing
from emergency_stop.domain.messages import Ack, AuditRecord, Command, Hold, Request, ServiceInstance
from emergency_stop.domain.values import LEVEL_SEVERITY, AckState
from emergency_stop.sdk.effects import Effect as StopEffect
from emergency_stop.sdk.gate import Verdict
from emergency_stop.sdk.permit import PermitGate
from emergency_stop.sdk.stops import Stops
from tests.simulation.coordination import KeepingCoordinator
from tests.simulation.planted_leases import LEASE_BUGS
from tests.simulation.planted_takeovers import TAKEOVER_BUGS
from tests.simulation.planted_undoing import UNDOING_BUGS
from tests.simulation.planting import SDK_KINDS as _SDK
from tests.simulation.planting import Planted
from tests.simulation.violation import Violation
from tests.simulation.weather import BEREFT_AT, CROWD_AT, SPECIAL_EVERY
from tests.simulation.world import Parts

# ------------------------------------------------------------------------------------------------- in the SDK


class EpochBlindGate(PermitGate):
    """Takes any hold for the newest, and any resume."""

    def apply_hold(self, hold: Hold, *, trusted: bool) -> Verdict:
        self._holds.pop(hold.scope, None)
        return super().apply_hold(hold, trusted=trusted)

    def apply_resume(self, command: Command, *, trusted: bool) -> Verdict:
        return super().apply_resume(replace(command, epoch=1 << 40), trusted=trusted)


class ForgetfulGate(PermitGate):
    """Leaves out the holds that it is given before it opens."""

    def apply_hold(self, hold: Hold, *, trusted: bool) -> Verdict:
        return Verdict.UNCHANGED if self._closed else super().apply_hold(hold, trusted=trusted)


class PatientGate(PermitGate):
    """Waits for the hold: a command alone does not shut it."""

    def apply_stop(self, command: Command, *, trusted: bool) -> Verdict:
        return Verdict.APPLIED


class EagerGate(PermitGate):
    """A resume command lifts the hold as well."""

    def apply_resume(self, command: Command, *, trusted: bool) -> Verdict:
        self._holds.pop(command.scope, None)
        return super().apply_resume(command, trusted=trusted)


class StopsOnReceipt(Stops):
    """Says STOPPED as soon as it has heard of the stop."""

    def _stop(self, command: Command, trusted: bool, note: str, now_ms: int) -> list[StopEffect]:
        effects = super()._stop(command, trusted, note, now_ms)
        return [*effects, self._answer(command, AckState.STOPPED, note, now_ms)]


class StopsWhateverTheHandlerSays(Stops):
    """Takes a stop handler that has ended for one that has succeeded."""

    def on_handled(
        self, command_id: str, now_ms: int, *, done: bool, reason: str = "", saved_state: str | None = None
    ) -> list[StopEffect]:
        return super().on_handled(command_id, now_ms, done=True, reason=reason, saved_state=saved_state)


# ------------------------------------------------------------------------------------------ in the coordinator


class ForgetfulCoordinator(KeepingCoordinator):
    """Begins without the emergencies of its predecessor."""

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        super().restore(records)
        self._scopes = {scope: replace(state, cases=()) for scope, state in self._scopes.items()}


class CoordinatorWithoutOutbox(KeepingCoordinator):
    """Does not repeat what its predecessor had decided and perhaps not published."""

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        super().restore(records)
        self._recorded.clear()


class HastyCoordinator(KeepingCoordinator):
    """Writes its records one checkpoint late: what it publishes is not on record yet."""

    _late: Sequence[tuple[bytes, bytes | None]] = ()

    def take_dirty(self) -> Sequence[tuple[bytes, bytes | None]]:
        written, self._late = self._late, super().take_dirty()
        return written


class CoordinatorWithoutAfterthought(KeepingCoordinator):
    """Leaves a hold overtaken by an older one as it is."""

    def to_restate(self, overtaken: Mapping[str, int]) -> list[str]:
        return []


_refusal, _resume, _hold_of = resume._refusal, resume.resume, holds.hold_of
_event, _enlist, _began_anew = instances._event, instances.enlist, instances._began_anew


def _refuses_no_old_epoch(state: ScopeState, request: Request) -> str:
    return _refusal(state, replace(request, epoch=state.epoch))


def _resume_without_audit(state: ScopeState, request: Request, now_ms: int, world: World) -> Change:
    after, effects = _resume(state, request, now_ms, world)
    return after, [e for e in effects if not (isinstance(e, AuditRecord) and e.action == "resumed")]


def _mildest(state: ScopeState, reason: str, now_ms: int) -> Hold:
    hold = _hold_of(state, reason, now_ms)
    level = min((cause.level for cause in hold.causes), key=LEVEL_SEVERITY.__getitem__, default=None)
    return replace(hold, level=level)


def _any_stopped_is_a_proof(order: Any, ack: Ack) -> Any:
    return _event(order, replace(ack, in_flight=0, epoch=1 << 40))


def _never_stale(*_: object) -> bool:
    return False


def _no_escalation(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    order = replace(case.orders[-1], deadline_at=now_ms + world.policy.graceful_stop_timeout_ms)
    return state.with_case(replace(case, orders=(*case.orders[:-1], order))), []


def _gives_up_at_once(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    return state.with_case(replace(case, phase=Phase.ESCALATED)), []


def _nobody_came(case: Case, now_ms: int, world: World) -> tuple[Case, list[Effect]]:
    return case, []


def _only_the_living(case: Case, world: World, now_ms: int) -> Any:
    return tuple(t for t in _enlist(case, world, now_ms) if t.reason != "heartbeat lost")


def _whoever_may_come(case: Case, world: World) -> bool:
    del world
    return all_proved(case)


def _only_who_owes(target: Target, instance: ServiceInstance) -> bool:
    return target.standing is not Standing.STOPPED and _began_anew(target, instance)


def _covers_all(*_: object) -> bool:
    return True


def _knows_no_cause(*_: object) -> bool:
    return False


_LOST: Final = frozenset({"stale_resume", "stop_lost", "never_ended"})

BUGS: Final = (
    Planted("the gate ignores epochs", _SDK | {"stale_resume"}, Parts(gate=EpochBlindGate)),
    Planted("an instance loses its holds at a restart", _SDK | {"stop_lost"}, Parts(gate=ForgetfulGate)),
    Planted("a stop command does not shut the gate", _SDK, Parts(gate=PatientGate)),
    Planted("a resume command lifts a hold", _SDK | {"stale_resume"}, Parts(gate=EagerGate)),
    Planted("STOPPED on receipt", frozenset({"acted_after_proof"}), Parts(stops=StopsOnReceipt)),
    Planted("STOPPED whatever the handler says", _SDK, Parts(stops=StopsWhateverTheHandlerSays)),
    Planted("the coordinator loses emergencies at a restart", _LOST, Parts(ForgetfulCoordinator)),
    Planted(
        "the coordinator loses its outbox at a restart", _LOST | {"unaudited", "not_escalated"},
        Parts(CoordinatorWithoutOutbox),
    ),
    Planted("published before its record is durable", frozenset({"undurable"}), Parts(HastyCoordinator)),
    Planted(
        "an overtaken hold stays so", frozenset({"stuck_shut", "stop_lost"}) | _SDK,
        Parts(CoordinatorWithoutAfterthought),
    ),
    Planted(
        "the coordinator ignores epochs", frozenset({"stale_resume"}),
        patches=((resume, "_refusal", _refuses_no_old_epoch),),
    ),
    Planted("a resume without audit", frozenset({"unaudited"}), patches=((step, "resume", _resume_without_audit),)),
    Planted("a hold as mild as its mildest cause", frozenset({"milder_hold"}), patches=((holds, "hold_of", _mildest),)),
    Planted(
        "a proof with actions in flight", frozenset({"false_account", "acted_after_stop"}),
        patches=((instances, "_event", _any_stopped_is_a_proof),),
    ),
    Planted(
        "a late word turns the verdict", frozenset({"false_account"}), patches=((instances, "_stale", _never_stale),)
    ),
    Planted("escalation never comes", frozenset({"never_ended"}), patches=((lifecycle, "_escalate", _no_escalation),)),
    Planted(
        "given up on at the first deadline", frozenset({"not_escalated"}),
        patches=((lifecycle, "_escalate", _gives_up_at_once),),
    ),
    Planted(
        "one that came up unnoticed is not asked", frozenset({"acted_after_stop", "early_tier"}),
        patches=tuple((module, "muster", _nobody_came) for module in (cascade, step, lifecycle)),
        every=SPECIAL_EVERY, at=CROWD_AT,
    ),
    Planted(
        "one whose heartbeat is lost need not prove it", frozenset({"acted_after_stop"}),
        patches=((cascade, "enlist", _only_the_living), (lifecycle, "enlist", _only_the_living)),
    ),
    Planted(
        "a stop is claimed before its hold is on record", frozenset({"acted_after_stop"}),
        patches=((lifecycle, "proven", _whoever_may_come),), every=SPECIAL_EVERY, at=BEREFT_AT,
    ),
    Planted(
        "a proof binds whoever comes again under the id", frozenset({"acted_after_stop"}),
        patches=((instances, "_began_anew", _only_who_owes),), every=SPECIAL_EVERY, at=BEREFT_AT,
    ),
    Planted(
        "a hit joins whatever its trigger has open", frozenset({"stop_lost", "milder_hold"}),
        patches=((step, "covers", _covers_all),),
    ),
    Planted(
        "a repeated cause is decided again", frozenset({"decided_twice", "stale_resume", "epoch_reused"}),
        patches=((step, "_is_known", _knows_no_cause),),
    ),
    *UNDOING_BUGS,
    *LEASE_BUGS,
    *TAKEOVER_BUGS,
)  # fmt: skip


def find_all(seed: int, processes: int) -> Iterator[tuple[Planted, Violation | None]]:
    """Each bug with what it leads to, ``None`` where it was not caught, in their order."""
    # bugs go by their numbers: what they mutate does not pass from process to process
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from zip(BUGS, pool.imap(partial(_find, seed), range(len(BUGS))), strict=True)


def _find(seed: int, number: int) -> Violation | None:
    return BUGS[number].find(seed)
