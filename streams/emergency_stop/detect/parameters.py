"""A group's triggers as arrays for the kernels, and which of them watches which account."""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import F64, I64
from emergency_stop.detect.judge_kernels import LIMIT_CELLS
from emergency_stop.detect.plan import Group
from emergency_stop.detect.truth import limits_of
from emergency_stop.domain.triggers import Trigger

_HUNDRED: Final = 100
_TRUE: Final = 1


def parameters(group: Group, clear_margin_percent: int) -> tuple[F64, I64]:
    """(``thresholds``, ``limits``) as ``judge_kernels.judge`` reads them, a row per member."""
    members = group.members
    thresholds, limits = np.zeros((len(members), 4), np.float64), np.zeros((len(members), LIMIT_CELLS), np.int64)
    for index, member in enumerate(members):
        trigger = member.trigger
        own = member.thresholds or (float(_TRUE),)  # a rule's value is whether it is true
        thresholds[index, : len(own)] = own
        limits[index, :5] = (
            trigger.min_samples, trigger.for_ms, trigger.cooldown_period, mark(trigger), _mark_of_version(trigger),
        )  # fmt: skip
    thresholds[:, 2:], limits[:, 5:] = limits_of(group, members, clear_margin_percent)
    return thresholds, limits


def _mark_of_version(trigger: Trigger) -> int:
    return _mark(f"{trigger.trigger_id}\n{trigger.version}")


def mark(trigger: Trigger) -> int:
    """What identifies a trigger in a row of state, whichever its version; never 0."""
    return _mark(trigger.trigger_id)


@lru_cache(maxsize=2**18)
def _mark(trigger_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(trigger_id.encode(), digest_size=8).digest(), "big") >> 1 | 1


def member_for(group: Group, key: bytes) -> int:
    """Which member watches an account; -1: none."""
    own = group.by_account.get(key)
    if own is not None or group.canary is None:
        return group.base if own is None else own
    canary = group.canary
    inside = zlib.crc32(f"{canary.trigger_id}/".encode() + key) % _HUNDRED < canary.percent
    return group.base if inside == canary.inside else -1
