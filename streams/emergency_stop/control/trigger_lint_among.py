"""What is unwise about triggers only beside each other: ids, overrides, canaries, two that watch the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from emergency_stop.config import did_you_mean
from emergency_stop.domain.default_triggers import BUILTIN_KINDS, default_pack
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import TriggerType
from emergency_stop.rules.versions import is_canary


@dataclass(frozen=True, slots=True)
class Finding:
    """``rule`` is its stable name."""

    trigger_id: str
    rule: str
    text: str


def among(triggers: Sequence[Trigger]) -> list[Finding]:
    """Findings about triggers beside each other, and beside the default pack, which an installation starts with."""
    known = {trigger.trigger_id: trigger for trigger in (*default_pack(0), *triggers)}
    return [*_same_id(triggers), *_overrides(triggers, known), *_canaries(triggers), *_duplicates(triggers)]


def _same_id(triggers: Sequence[Trigger]) -> Iterator[Finding]:
    for name, times in Counter(trigger.trigger_id for trigger in triggers).items():
        if times > 1:
            yield Finding(name, "same-id", f"{times} definitions have this id; the last one wins")


def _overrides(triggers: Sequence[Trigger], known: Mapping[str, Trigger]) -> Iterator[Finding]:
    names = tuple(name for name, one in known.items() if not one.overrides)
    for trigger in triggers:
        if trigger.overrides:
            problem = _override(trigger, known.get(trigger.overrides), names)
            if problem:
                yield Finding(trigger.trigger_id, "no-such-trigger", f"overrides={trigger.overrides!r} {problem}")


def _override(trigger: Trigger, base: Trigger | None, names: tuple[str, ...]) -> str:
    if trigger.overrides in BUILTIN_KINDS:
        return "is built in: it watches every account, and nothing replaces it"
    if base is None:
        return f"is not among these, nor in the default pack{did_you_mean(str(trigger.overrides), names)}"
    if base.trigger_type is not trigger.trigger_type:
        return f"is of another type: {base.trigger_type.value}, not {trigger.trigger_type.value}"
    return ""


def _canaries(triggers: Sequence[Trigger]) -> Iterator[Finding]:
    """A version in force before it becomes its stable one when it is added; here, only the default pack is known."""
    known = {trigger.trigger_id for trigger in default_pack(0)}
    known |= {trigger.trigger_id for trigger in triggers if not is_canary(trigger)}
    for trigger in triggers:
        if is_canary(trigger) and not trigger.stable and trigger.trigger_id not in known:
            others = f"{100 - trigger.canary_percent}% of accounts are watched by no version"
            yield Finding(trigger.trigger_id, "nothing-stable", f"unless one is in force already, {others} of it")


def _duplicates(triggers: Sequence[Trigger]) -> Iterator[Finding]:
    first: dict[Hashable, str] = {}
    for trigger in triggers:
        if not trigger.is_active or trigger.trigger_type is TriggerType.MANUAL_TRIGGER:
            continue
        name = first.setdefault(_watched(trigger), trigger.trigger_id)
        if name != trigger.trigger_id:
            yield Finding(trigger.trigger_id, "duplicate", f"watches the same as {name}, with the same threshold")


def _watched(trigger: Trigger) -> Hashable:
    """All that decides whom it watches, and when it fires."""
    return (
        trigger.trigger_type, trigger.account_id, trigger.across, trigger.rule, trigger.time_window,
        trigger.min_samples, trigger.for_ms, tuple(sorted(trigger.thresholds.items())),
        tuple(sorted(trigger.options.items())),
    )  # fmt: skip
