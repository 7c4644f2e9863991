"""Thresholds swept: variants of triggers side by side, each under an id of its own, so that one pass judges all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Final

from emergency_stop.config import did_you_mean
from emergency_stop.domain.triggers import LIMITS, PERCENT_ALL, Limit, Trigger

VARIANTS_MAX: Final = 500
#: Stands between a trigger's id and what its variant has instead.
_MARK: Final = "~"


class SweepError(ValueError):
    """A sweep cannot be made; the text says which, why, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A threshold's values, from the lowest to the highest."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """``trigger`` with ``values`` of its thresholds, instead of the trigger ``base_id``."""

    base_id: str
    values: Mapping[str, float]
    trigger: Trigger


def parse_sweep(text: str) -> Sweep:
    """``riskScore=60:95:5`` (to 95 inclusive). Raises ``SweepError``."""
    name, _, spelled = text.partition("=")
    parts = spelled.split(":")
    try:
        low, high, step = (Decimal(part) for part in parts)
        steps = int((high - low) / step) if step > 0 else -1
    except (ValueError, OverflowError, InvalidOperation):
        steps = -1
        low, step = Decimal(0), Decimal(0)
    if not name or steps < 0:
        raise SweepError(f"--sweep {text!r}: is no sweep; write NAME=LOW:HIGH:STEP, as in riskScore=60:95:5")
    if steps >= VARIANTS_MAX:
        raise SweepError(f"--sweep {text!r}: has {steps + 1} values; allowed: {VARIANTS_MAX}. Choose a larger STEP")
    return Sweep(name, tuple(float(low + step * number) for number in range(steps + 1)))


def variants(triggers: Sequence[Trigger], sweeps: Sequence[Sweep]) -> list[Variant]:
    """Every combination of values, for every active trigger of all accounts that has all of the swept thresholds.

    Raises ``SweepError``.
    """
    names = [sweep.name for sweep in sweeps]
    bases = [one for one in triggers if one.is_active and one.account_id is None and set(names) <= set(one.thresholds)]
    if not bases:
        known = tuple(sorted({name for one in triggers if one.account_id is None for name in one.thresholds}))
        hint = "".join(did_you_mean(name, known) for name in names if name not in known)
        raise SweepError(
            f"no active trigger of all accounts has {' and '.join(names)}{hint}; there are thresholds:"
            f" {', '.join(known) or 'none'}"
        )
    found = [_variant(base, dict(zip(names, values, strict=True))) for base in bases for values in _values(sweeps)]
    if len(found) > VARIANTS_MAX:
        raise SweepError(
            f"{len(bases)} triggers by {len(found) // len(bases)} values are {len(found)} variants; allowed:"
            f" {VARIANTS_MAX}. Name one --trigger, or choose a larger STEP"
        )
    return found


def watched(triggers: Sequence[Trigger], found: Sequence[Variant]) -> list[Trigger]:
    """All that one pass watches for: the variants, and under each the overrides of its trigger, which keep their
    accounts from it.
    """
    overrides = [one for one in triggers if one.overrides is not None and one.is_active]
    kept = [
        replace(one, trigger_id=f"{one.trigger_id}{_MARK}{number}", overrides=variant.trigger.trigger_id)
        for number, variant in enumerate(found)
        for one in overrides
        if one.overrides == variant.base_id
    ]
    return [*(one.trigger for one in found), *kept]


def _values(sweeps: Sequence[Sweep]) -> Sequence[tuple[float, ...]]:
    return list(itertools.product(*(sweep.values for sweep in sweeps)))


def _variant(base: Trigger, values: Mapping[str, float]) -> Variant:
    limits = LIMITS[base.trigger_type]
    for name, value in values.items():
        _check(base, name, value, limits.get(name))
    spelled = ",".join(f"{name}={value:g}" for name, value in values.items())
    own = replace(
        base,
        trigger_id=f"{base.trigger_id}{_MARK}{spelled}",
        thresholds={**base.thresholds, **values},
        # Which accounts are in a share follows from the id: variants would watch different ones.
        canary_percent=PERCENT_ALL,
        stable="",
    )
    return Variant(base.trigger_id, values, own)


def _check(base: Trigger, name: str, value: float, limit: Limit | None) -> None:
    if limit is None:
        raise SweepError(f"{name} of {base.trigger_id} is built in and cannot be swept")
    if not limit.low <= value <= limit.high or (limit.whole and not value.is_integer()):
        allowed = f"{'whole numbers ' if limit.whole else ''}from {limit.low:g} to {limit.high:g}"
        raise SweepError(f"{name}={value:g} of {base.trigger_id}: is out of range; allowed: {allowed}")
