"""Where one account stands with every trigger that watches it, read from the detector's arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from emergency_stop.detect.groups import GroupState
from emergency_stop.detect.plan import Member
from emergency_stop.detect.standing import Standing, standing_of
from emergency_stop.detect.topic_state import TopicState


def account_standings(
    topics: Mapping[str, TopicState], account: bytes, at_ms: int | None = None, only: str | None = None
) -> Iterator[Standing]:
    """As far as the account has had events; changes nothing. At ``at_ms`` what is older has left the windows; without
    it they are as of their newest events. ``only``: the one trigger that is asked about.
    """
    for topic in topics.values():
        slot = topic.slot_of(account)
        if slot < 0:
            continue
        for state in topic.groups.values():
            member = state.member_for(account)
            if member is not None and only in (None, member.trigger.trigger_id):
                yield _standing(topics, state, member, slot, account, at_ms)


def _standing(
    topics: Mapping[str, TopicState],
    state: GroupState,
    member: Member,
    slot: int,
    account: bytes,
    at_ms: int | None,
) -> Standing:
    shape = state.group.shape
    owners = [topics[series.topic] for series in shape.series]
    slots = [slot if owner.topic == shape.home else owner.slot_of(account) for owner in owners]
    states = [owner.series_state(series) for owner, series in zip(owners, shape.series, strict=True)]
    windows = [one.standing(own, at_ms) for one, own in zip(states, slots, strict=True)]
    newest = np.array((max(at_ms or 0, *(window.newest_at or 0 for window in windows)),), np.int64)
    seen = [one.read(np.array((own,), np.int32), newest) for one, own in zip(states, slots, strict=True)]
    own_state, holds = state.account(slot, member), state.rule_holds(seen)
    return standing_of(member.trigger, shape, member.thresholds, own_state, windows, rule_holds=holds)
