"""Stops beside a topic that is gone, and a hold beside what somebody else writes over it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import HoldState
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.signing import SignatureVerdict
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import hit, request, resume


@pytest.mark.needs("broker")
async def test_a_hold_is_said_again_when_somebody_without_the_key_writes_over_it(broker: str, tmp_path: Path) -> None:
    """After compaction the forged record, or the tombstone, would be all that a new service reads."""
    async with CoordinatorOffice(broker, tmp_path) as office:
        office.start(ESTOP_VERIFY_KEYS_FILE=str(tmp_path / "verify.pem"))
        where = "account:written-over"
        await office.send(hit("h-over", where, occurred_at=now_ms()))
        await until(lambda: office.hold(where), "held")
        forged = Hold(where, 5, HoldState.RUNNING, None, (), "all is well", now_ms())
        await office.publisher.publish(topics.HOLDS, where.encode(), office.codec.encode(forged, topics.HOLDS))
        await until(lambda: _newest(office, where).epoch > forged.epoch, "said again")
        again = _newest(office, where)
        assert (again.state, again.epoch) == (HoldState.HELD, 6)
        assert office.verifier.verify(again) is SignatureVerdict.VALID
        await office.send(resume("r-over", 6, scope=where))
        await until(lambda: _newest(office, where).state is HoldState.RUNNING, "and can be lifted")
        assert _newest(office, where).epoch == 7
        assert "signature unsigned" in office.log()


def _newest(office: CoordinatorOffice, scope: str) -> Hold:
    return next(hold for hold in reversed(office.holds) if hold.scope == scope)


@pytest.mark.needs("java", "maven")
async def test_stops_go_on_when_the_topics_of_notices_and_events_are_gone(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    brokers, gone = apache_kafka.bootstrap, [topics.NOTICES, topics.LIFECYCLE]
    async with CoordinatorOffice(brokers, tmp_path) as office:
        office.start()
        await office.send(request("r-before", scope="account:before", requested_at=now_ms()))
        await until(lambda: office.hold("account:before"), "held")
        admin = AdminClient({"bootstrap.servers": brokers})
        for deleted in admin.delete_topics(gone).values():
            deleted.result()
        try:
            for number in range(5):
                where = f"account:without-notices-{number}"
                await office.send(request(f"r-{where}", scope=where, requested_at=now_ms()))
                await until(partial(office.hold, where), f"{where} is held")
            assert office.is_running()
        finally:
            await ensure_topics(brokers, topics.all_topics(SERVICES))
