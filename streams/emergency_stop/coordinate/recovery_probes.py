"""Probes: commands that ask every instance whether it is prepared, or well at a share, and what they answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from emergency_stop.coordinate.bounds import listed
from emergency_stop.coordinate.lifecycle import commands
from emergency_stop.coordinate.recovery_checks import probes_for, still_asked
from emergency_stop.coordinate.recovery_records import changed, under_way
from emergency_stop.coordinate.recovery_state import Probe
from emergency_stop.coordinate.state import Case, Effect, Order, ScopeState, World
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import Ack, Command
from emergency_stop.domain.values import AckState, Action

#: Answers that say nothing yet.
_PROGRESS: Final = frozenset({AckState.RECEIVED})


def probed(
    state: ScopeState, case: Case, services: Iterable[str], percent: int, deadline_at: int, now_ms: int, world: World
) -> tuple[Case, list[Effect]]:
    """The case with every live instance of ``services`` asked by a command of the state's epoch."""
    recovery = under_way(case)
    order = Order(Action.PROBE, recovery.attempt, state.epoch, case.level, now_ms, deadline_at)
    sent: list[Effect] = [
        replace(command, share_percent=percent)
        for command in commands(case, order, services, world)
        if isinstance(command, Command)
    ]
    epochs = (*recovery.probe_epochs, state.epoch)
    probes = probes_for(services, world, now_ms)
    return changed(case, probes=probes, probe_epochs=epochs, probe_until=deadline_at), sent


def answers_probe(case: Case, ack: Ack) -> bool:
    """Whether it answers a probe of the case's last recovery, or a command that a rollback has replaced."""
    recovery = case.recovery
    return recovery is not None and (ack.command_id in recovery.former_commands or _probe_epoch(case, ack) is not None)


def fold_probe(case: Case, ack: Ack) -> Case:
    """The case after an answer; the same object where it tells nothing new. Of two answers the refusal counts."""
    recovery = case.recovering
    if recovery is None or ack.state in _PROGRESS or _probe_epoch(case, ack) != recovery.probe_epochs[-1]:
        return case
    probes = tuple(_folded(probe, ack) for probe in recovery.probes)
    return case if probes == recovery.probes else changed(case, probes=probes)


def _probe_epoch(case: Case, ack: Ack) -> int | None:
    recovery = case.recovery
    for epoch in recovery.probe_epochs if recovery else ():
        if command_id(case.emergency_id, ack.service, epoch, Action.PROBE, recovery.attempt if recovery else 0) == (
            ack.command_id
        ):
            return epoch
    return None


def _folded(probe: Probe, ack: Ack) -> Probe:
    is_other = (probe.service, probe.instance_id) != (ack.service, ack.instance_id)
    if is_other or probe.state is AckState.REFUSED or probe.state is ack.state:
        return probe
    if ack.state is AckState.READY:
        return replace(probe, state=AckState.READY, reason=ack.reason)
    said = "" if ack.state is AckState.REFUSED else f"answered {ack.state.value} to a probe"
    return replace(probe, state=AckState.REFUSED, reason="; ".join(filter(None, (said, ack.reason))))


def refused(probes: Iterable[Probe]) -> str:
    """The first refusal, for people; empty where there is none."""
    found = next((probe for probe in probes if probe.state is AckState.REFUSED), None)
    return f"{found.service}/{found.instance_id} refuses: {found.reason or 'it does not say why'}" if found else ""


def unanswered(probes: tuple[Probe, ...], world: World, now_ms: int) -> tuple[Probe, ...]:
    """Those that owe their answer and have not left."""
    return tuple(probe for probe in still_asked(probes, world, now_ms) if probe.state is None)


def named(probes: Iterable[Probe]) -> str:
    return listed([f"{probe.service}/{probe.instance_id}" for probe in probes])
