"""Bugs planted in who may publish, which of two holds counts, and which record of a hold is one."""

from __future__ import annotations

from typing import Any, Final

from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.domain.messages import Hold
from emergency_stop.sdk import gate
from emergency_stop.sdk.shut import Shut
from tests.simulation.planting import SDK_KINDS, Planted
from tests.simulation.weather import CUT_OFF_AT, CUT_OFF_EVERY, IMPOSTOR_AT, SPECIAL_EVERY
from tests.simulation.world import Parts

_no_newer, _take = gate._no_newer, PublishedHolds.take
#: Two coordinators have decided about one scope, each what it saw.
_TWO_MINDS: Final = frozenset(
    {"epoch_reused", "undurable", "stale_resume", "unaudited", "decided_twice", "stop_lost", "false_account"}
)


def _equal_is_newer(hold: Hold, shut: Shut | None, known: Any) -> Any:
    return gate._Known(known.epoch, shut, shut) if hold.epoch == known.epoch else _no_newer(hold, shut, known)


def _passes_over(published: PublishedHolds, hold: Hold, *, trusted: bool = True) -> bool:
    return trusted and _take(published, hold)


def _whatever_is_newest(*_: object) -> bool:
    return False


TAKEOVER_BUGS: Final = (
    Planted(
        "one that was cut off publishes what it decided", _TWO_MINDS, Parts(proves=False),
        every=CUT_OFF_EVERY, at=CUT_OFF_AT,
    ),
    Planted(
        "a log is read before it is taken over", _TWO_MINDS, Parts(claims_first=False),
        every=CUT_OFF_EVERY, at=CUT_OFF_AT,
    ),
    Planted(
        "what one wrote late is restored and not written anew", _TWO_MINDS, Parts(settles=False),
        every=CUT_OFF_EVERY, at=CUT_OFF_AT,
    ),
    Planted(
        "a hold of an equal epoch loosens", SDK_KINDS | {"stop_lost"},
        patches=((gate, "_no_newer", _equal_is_newer),), every=SPECIAL_EVERY, at=IMPOSTOR_AT,
    ),
    Planted(
        "a hold that its owner never decided stands", frozenset({"stuck_shut"}),
        patches=((PublishedHolds, "_contradicts", _whatever_is_newest),), every=SPECIAL_EVERY, at=IMPOSTOR_AT,
    ),
    Planted(
        "a forged record of a hold is passed over", SDK_KINDS | {"stop_lost", "stuck_shut"},
        patches=((PublishedHolds, "take", _passes_over),), every=SPECIAL_EVERY, at=IMPOSTOR_AT,
    ),
)  # fmt: skip
