"""What follows when no detector sees a telemetry partition: who is told, and who is held. Pure.

Theory of operation. A partition is blind while no lane has evaluated what is new in it. When it becomes so, an episode
begins: for every trigger with ``on_blind: hold`` one cause is raised, as a hit, so that all that holds for hits holds
for it: emergency, hold, commands, proof. Its id is derived from trigger, version, partition and episode. The episode is
remembered with what was raised in it, so a restart repeats nothing, and an operator's resume stands as long as it
lasts. When the partition sees again, that is recorded and nothing is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from emergency_stop.coordinate.audit import decision
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Hit
from emergency_stop.domain.topics import FRESHNESS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import ALL_SERVICES, GLOBAL_SCOPE, ClearRule, Scope, StopLevel

BlindEffect = Hit | AuditRecord
#: More accounts than this with triggers of their own are held as one, by a hold of everything.
ACCOUNTS_HELD_MAX: Final = 10_000
BECAME_BLIND: Final = "partition_blind"
SEES_AGAIN: Final = "partition_sees_again"
_NAMED_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of one partition. ``seen_at`` is on the coordinator's clock, whatever clocks detectors have."""

    #: The newest ``Freshness.fresh_at`` of any lane; 0: nobody ever said.
    fresh_at: int = 0
    #: When some lane had last evaluated all that was new; at the earliest when somebody began to watch.
    seen_at: int = 0
    #: Whether there is anything to see, though nobody ever said that it was seen.
    has_telemetry: bool = False

    @property
    def is_watched(self) -> bool:
        return self.fresh_at > 0 or self.has_telemetry


@dataclass(frozen=True, slots=True)
class Watchers:
    """The triggers in force: those that hold when they do not see, by urgency, and how many only alert."""

    holding: tuple[Trigger, ...] = ()
    alerting: int = 0


@dataclass(frozen=True, slots=True)
class PartitionSight:
    """The state of one partition. ``episode`` is ``None`` while somebody sees."""

    partition: int
    #: ``Sight.fresh_at`` as it was when the partition became blind.
    episode: int | None = None
    #: Version by trigger, of what was raised in this episode.
    raised: Mapping[str, int] = field(default_factory=dict)


Change = tuple[PartitionSight, list[BlindEffect]]


def is_blind(sight: Sight, now_ms: int, after_ms: int) -> bool:
    return sight.is_watched and now_ms - sight.seen_at > after_ms


def sees_again(state: PartitionSight, sight: Sight, now_ms: int, after_ms: int) -> bool:
    """Only on new word from a detector, and well within the bound: a lag around it must not be many episodes."""
    return sight.fresh_at > (state.episode or 0) and now_ms - sight.seen_at <= after_ms // 2


def step(state: PartitionSight, sight: Sight, watchers: Watchers, *, now_ms: int, after_ms: int) -> Change:
    """Apply what is known now. The same knowledge again changes nothing and has no effects."""
    if state.episode is None:
        if not is_blind(sight, now_ms, after_ms):
            return state, []
        state = replace(state, episode=sight.fresh_at)
        noted: list[BlindEffect] = [_became_blind(state, sight, watchers, now_ms)]
    elif sees_again(state, sight, now_ms, after_ms):
        return PartitionSight(state.partition), [_saw_again(state, now_ms)]
    else:
        noted = []
    hits = list(_causes(state, sight, watchers.holding, now_ms, after_ms))
    if hits:
        raised = {**state.raised, **{hit.trigger_id: hit.trigger_version for hit in hits}}
        state = replace(state, raised=raised)
    return state, [*noted, *hits]


def _causes(
    state: PartitionSight, sight: Sight, holding: Sequence[Trigger], now_ms: int, after_ms: int
) -> Iterator[Hit]:
    for trigger in _bounded(holding):
        if state.raised.get(trigger.trigger_id) != trigger.version:
            yield _cause(trigger, state, now_ms - sight.seen_at, now_ms, after_ms)


def _bounded(holding: Sequence[Trigger]) -> Sequence[Trigger]:
    """Where too many accounts have triggers of their own, the most urgent of these stands for everything."""
    of_accounts = [trigger for trigger in holding if trigger.account_id is not None]
    if len(of_accounts) <= ACCOUNTS_HELD_MAX:
        return holding
    of_all = replace(of_accounts[0], account_id=None, target_services=(ALL_SERVICES,))
    return [of_all, *(trigger for trigger in holding if trigger.account_id is None)]


def _cause(trigger: Trigger, state: PartitionSight, unseen_ms: int, now_ms: int, after_ms: int) -> Hit:
    """A hit whose observation is how long nobody saw; graceful, because nothing is known to be wrong."""
    scope = GLOBAL_SCOPE if trigger.account_id is None else Scope.account(trigger.account_id)
    hit_id = derived_id("blind", trigger.trigger_id, trigger.version, state.partition, state.episode or 0)
    return Hit(
        hit_id=hit_id,
        trigger_id=trigger.trigger_id,
        trigger_version=trigger.version,
        trigger_type=trigger.trigger_type,
        trigger_name=trigger.name,
        mode=trigger.mode,
        scope=str(scope),
        account_id=trigger.account_id,
        level=StopLevel.GRACEFUL,
        target_services=trigger.target_services,
        priority=trigger.priority,
        reason=f"no detector evaluated telemetry partition {state.partition} for {unseen_ms / 1000:.0f} s,"
        " and the trigger says on_blind: hold",
        occurred_at=now_ms,
        detected_at=now_ms,
        source_topic=FRESHNESS,
        source_partition=state.partition,
        source_offset=state.episode or 0,
        observed=float(unseen_ms),
        threshold=float(after_ms),
        margin=float(unseen_ms - after_ms),
        window_ms=after_ms,
        window_samples=0,
        window_contents='{"terms":[]}',
        late=False,
        suppressed_before=0,
        correlation_id=hit_id,
        clear_rule=_clear_rule(trigger),
    )


def _clear_rule(trigger: Trigger) -> ClearRule:
    """What happened while nobody saw, no later telemetry tells: somebody must look, whatever the trigger allows."""
    strictest = trigger.clear_rule is ClearRule.NEVER_AUTOMATICALLY
    return trigger.clear_rule if strictest else ClearRule.AFTER_OPERATOR_RESET


def _became_blind(state: PartitionSight, sight: Sight, watchers: Watchers, now_ms: int) -> AuditRecord:
    names = [trigger.trigger_id for trigger in watchers.holding]
    held = ", ".join(names[:_NAMED_MAX]) + (f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else "")
    since = "ever" if sight.fresh_at == 0 else f"for {(now_ms - sight.seen_at) / 1000:.0f} s"
    return decision(
        at=now_ms, actor="coordinator", action=BECAME_BLIND, subject=_subject(state.partition),
        reason=f"no detector evaluated it {since}; {watchers.alerting} triggers alert,"
        f" {len(names)} hold{': ' + held if held else ''}",
        correlation_id=_episode_id(state), cause=_episode_id(state),
    )  # fmt: skip


def _saw_again(state: PartitionSight, now_ms: int) -> AuditRecord:
    held = f"; what {len(state.raised)} triggers hold stays held until it is resumed" if state.raised else ""
    return decision(
        at=now_ms, actor="coordinator", action=SEES_AGAIN, subject=_subject(state.partition),
        reason=f"a detector evaluates what is new again{held}",
        correlation_id=_episode_id(state), cause=_episode_id(state),
    )  # fmt: skip


def _subject(partition: int) -> str:
    return f"telemetry-partition:{partition}"


def _episode_id(state: PartitionSight) -> str:
    return derived_id("blind-episode", state.partition, state.episode or 0)
