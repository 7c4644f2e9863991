"""A cascading stop, tier by tier: services that depend on others stop before those that they depend on.

Theory of operation. The tiers are fixed when the stop begins. Its hold begins with the first of them and grows with
each, under a new epoch; commands go to the tier that begins. The next tier begins when every instance of the one before
has proven its stop, or when that one's deadline has passed: then those that still owe their proof are commanded again,
no longer gracefully. A service of which nothing was ever seen holds nobody up: nothing can prove its stop. While the
stop waits for a slot no command is out, and the tiers follow each other by their deadlines alone: a queue must not keep
anything running for longer than that. With its last tier the stop holds all that was asked for, whoever came up
meanwhile; from then on it is like any other. A drill walks the same tiers and holds none of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.bounds import listed
from emergency_stop.coordinate.dependencies import tiers
from emergency_stop.coordinate.holds import changed_hold
from emergency_stop.coordinate.instances import OWING, enlist, silence
from emergency_stop.coordinate.lifecycle import Change, commands, muster, settle, to_wire_emergency
from emergency_stop.coordinate.state import Case, Effect, Order, ScopeState, Target, World
from emergency_stop.coordinate.tables import HoldEvent, Phase, Standing
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.values import Scope, StopLevel


def planned(case: Case, world: World, now_ms: int) -> Case:
    """``case`` with its tiers, of which the first begins now; unchanged where there is only one, or none is wanted."""
    if case.level is not StopLevel.CASCADING:
        return case
    names = world.services.named(case.services, Scope.parse(case.scope))
    order = tiers(names, world.services.depends_on(world.policy.dependencies))[::-1]
    if len(order) < 2:  # noqa: PLR2004  (nothing comes after the first)
        return case
    return replace(case, tiers=order, tiers_begun=1, tier_deadline_at=now_ms + world.policy.timeout_ms(case.level))


def begin_tiers(state: ScopeState, now_ms: int, world: World, *, overdue: bool = False) -> Change:
    """Begin every tier of the scope's cascading stops for which the one before is over; with ``overdue`` also those
    for which it is late.
    """
    effects: list[Effect] = []
    for case in state.cases:
        state, more = _begin_tiers(state, case, now_ms, world, overdue)
        effects += more
    return state, effects


def _begin_tiers(state: ScopeState, case: Case, now_ms: int, world: World, overdue: bool) -> Change:
    effects: list[Effect] = []
    while case.phase in (Phase.QUEUED, Phase.STOPPING) and not case.is_whole:
        if _is_over(case):
            # those that were asked are done; somebody may have come up since
            case, told = muster(case, now_ms, world)
            state, effects = state.with_case(case), [*effects, *told]
        is_late = overdue and now_ms >= (case.tier_deadline_at or 0)
        if not _is_over(case) and not is_late:
            break
        state, more = _begin_next(state, case, now_ms, world)
        effects += more
        case = next(one for one in state.cases if one.emergency_id == case.emergency_id)
    return state, effects


def _of_tier(case: Case) -> tuple[Target, ...]:
    """The targets of the tier that began last."""
    tier = case.tiers[case.tiers_begun - 1]
    return tuple(target for target in case.targets if target.service in tier)


def _is_over(case: Case) -> bool:
    """Whether nothing of the last tier that began can be waited for any more."""
    tier = _of_tier(case)
    return bool(tier) and all(one.standing is Standing.STOPPED or not one.instance_id for one in tier)


def _begin_next(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """The next tier: its hold under a new epoch, then commands to it, and once more to those whose time is over."""
    before, former = state, case
    owing = [target for target in _of_tier(case) if target.standing is not Standing.STOPPED and target.instance_id]
    case = replace(
        case,
        tiers_begun=case.tiers_begun + 1,
        tier_deadline_at=now_ms + world.policy.timeout_ms(case.level),
        epoch=case.epoch if case.drill else world.next_epoch(state),
    )
    sent: list[Effect] = []
    if case.phase is Phase.STOPPING:
        case = _enlisted(case, owing, world, now_ms)
        if owing and not case.drill:
            case, again = _ordered(case, StopLevel.IMMEDIATE, (target.service for target in owing), world, now_ms)
            sent += again
        fresh = {target.service for target in case.targets} - {target.service for target in former.targets}
        case, first = _ordered(case, case.level, fresh, world, now_ms)
        sent += first
    if not case.drill:
        state = replace(state, epoch=case.epoch, stop_epoch=case.epoch)
    state = state.with_case(case)
    begun, count = case.tiers_begun, len(case.tiers)
    missing = listed([f"{one.service}/{one.instance_id}" for one in owing])
    over = f"no proof by the deadline from {missing}" if owing else "the tier before is stopped"
    if not former.targets:
        over = "the tier before waited for a slot until its deadline"
    note = decision(
        at=now_ms, actor=world.policy.issued_by, action="tier_begun", subject=case.emergency_id,
        reason=f"tier {begun} of {count}, {listed(case.tiers[begun - 1])}: {over}",
        correlation_id=case.correlation_id, cause=f"tier {begun}", before=before, after=state,
    )  # fmt: skip
    held = [] if case.drill else [changed_hold(before, state, HoldEvent.CAUSE_RAISED, case.reason, now_ms)]
    state, settled = settle(state, case, now_ms, world)
    return state, [*held, *sent, *(settled or [to_wire_emergency(case)]), note]


def _enlisted(case: Case, owing: list[Target], world: World, now_ms: int) -> Case:
    """With the targets of the tier that begins; those of the tier before that are late count as silent."""
    late = {(one.service, one.instance_id) for one in owing if one.standing in OWING}
    kept = [silence((t,), now_ms)[0] if (t.service, t.instance_id) in late else t for t in case.targets]
    known = {target.service for target in case.targets}
    fresh = [target for target in enlist(case, world, now_ms) if target.service not in known]
    return replace(case, targets=tuple(sorted([*kept, *fresh], key=lambda t: (t.service, t.instance_id))))


def _ordered(
    case: Case, level: StopLevel, services: Iterable[str], world: World, now_ms: int
) -> tuple[Case, list[Effect]]:
    """The case with a further order, and its commands."""
    deadline_at = now_ms + world.policy.timeout_ms(level)
    order = Order(case.orders[-1].action, len(case.orders) + 1, case.epoch, level, now_ms, deadline_at)
    case = replace(case, orders=(*case.orders, order))
    return case, commands(case, order, services, world)
