"""What was decided and its audit record are one record of state: neither is published, nor kept, without the other."""

from __future__ import annotations

import pytest

from emergency_stop.domain import topics
from emergency_stop.domain.messages import AuditRecord, Hold, Request
from emergency_stop.domain.values import HoldState
from tests.unit.apps.test_coordinator_core import SCOPE, Bench, taken
from tests.unit.coordinate.scenario import request, resume


@pytest.mark.parametrize(
    ("asked", "state", "action"),
    [
        (request("r2"), HoldState.HELD, "emergency_opened"),
        (resume("r3", epoch=1), HoldState.RUNNING, "resumed"),
    ],
)
def test_a_coordinator_that_dies_before_it_published_leaves_the_audit_to_its_successor(
    asked: Request, state: HoldState, action: str
) -> None:
    first, second = Bench(), Bench()
    kept: dict[bytes, bytes | None] = {}
    if state is HoldState.RUNNING:
        first.core.on_batch(first.batch(topics.REQUESTS, first.value(request())), 1_000)
        kept.update(taken(first.core))
        first.core.on_durable()
        first.core.on_published()
    published = list(first.core.on_batch(first.batch(topics.REQUESTS, first.value(asked), at=1), 2_000))
    assert published == [], "nothing goes out before it is on record"
    assert list(first.core.on_durable()) == []
    kept.update(taken(first.core))
    second.core.restore([(key, value) for key, value in kept.items() if value is not None], {})
    second.core.on_tick(3_000)
    again = list(second.core.on_durable())
    (hold,) = second.read(Hold, again, topics.HOLDS)
    assert (hold.scope, hold.state) == (SCOPE, state)
    audit = second.read(AuditRecord, again, topics.AUDIT)
    assert action in [one.action for one in audit]
    assert all(one.before and one.after for one in audit if one.action == action)
