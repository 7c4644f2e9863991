"""What the notifier keeps of compacted topics: what stands counts, garbage changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.notifier.books import ChannelBook, EmergencyBook, SilenceBook
from emergency_stop.apps.notifier.telling import channels_of
from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID, default_pack
from emergency_stop.domain.messages import Emergency, Notice, Silence
from emergency_stop.domain.values import EmergencyState, NoticeKind, StopLevel
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.registry_http import RegistryError
from tests.unit.notifier.test_last_resort import emergency

HOUR_MS = 3_600_000


@pytest.fixture
def codec() -> Codec:
    return Codec(LocalRegistry())


def record(key: str, value: bytes | None) -> TailRecord:
    return TailRecord(key.encode(), value, 0, 0, 0)


def test_the_newest_record_of_a_silence_stands_and_a_wrong_one_hides_nothing(codec: Codec) -> None:
    refused: list[int] = []
    book = SilenceBook(codec, lambda: refused.append(1))

    def write(**changes: str | int) -> None:
        fields = {"silence_id": "s", "author": "ann", "reason": "why", "starts_at": 0, "expires_at": 10, **changes}
        book.record(record("s", codec.encode(Silence(**fields), "any")))  # type: ignore[arg-type]  # by name

    write()
    write(expires_at=20)
    assert [one.expires_at for one in book.silences(0)] == [20]
    write(author="")
    assert (book.silences(0), refused) == ([], [1]), "the one that stood is gone, and the new one is none"
    write()
    book.record(record("s", b"\0garbage"))
    assert book.silences(0) == []
    write()
    book.record(record("s", None))
    assert book.silences(0) == []


def test_a_silence_is_forgotten_long_after_it_expired(codec: Codec) -> None:
    book = SilenceBook(codec, lambda: None)
    book.record(record("s", codec.encode(Silence("s", "ann", "why", 0, 10), "any")))
    assert len(book.silences(10 + HOUR_MS)) == 1
    assert book.silences(11 + HOUR_MS) == []


def test_triggers_name_channels_the_built_in_ones_too_and_removed_ones_still(codec: Codec) -> None:
    book = ChannelBook(codec, StopLevel.GRACEFUL)
    trigger = default_pack(0)[0]
    assert book.named_by(trigger.trigger_id) == ()
    book.record(record(trigger.trigger_id, codec.encode(trigger, "any")))
    book.record(record(trigger.trigger_id, None))
    book.record(record(trigger.trigger_id, b"\0garbage"))
    assert book.named_by(trigger.trigger_id) == trigger.notification_channels != ()
    assert book.named_by(BUILTIN_SUSPENSION_ID) != ()
    assert book.named_by(None) == ()


def test_a_warning_of_a_default_trigger_goes_wherever_people_are_told(codec: Codec) -> None:
    book, configured = ChannelBook(codec, StopLevel.GRACEFUL), ("system", "email", "webhook")
    for trigger in default_pack(0):
        name = trigger.trigger_id
        book.record(record(name, codec.encode(trigger, "any")))
        warning = Notice("n", NoticeKind.WARNING, 0, "subject", "text", "account:a", "corr", trigger_id=name)
        assert channels_of(warning, book.named_by(name), configured) == configured


def test_emergencies_are_under_way_until_resolved_and_drills_never(codec: Codec) -> None:
    book = EmergencyBook(codec)

    def write(one: Emergency) -> None:
        book.record(record(one.emergency_id, codec.encode(one, "any")))

    write(emergency("e1", EmergencyState.STOPPING))
    write(emergency("e1"))
    write(emergency("d", drill=True))
    book.record(record("e1", b"\0garbage"))
    assert (set(book.standing), book.under_way) == ({"e1", "d"}, {"e1"})
    changed = book.take_changed()
    assert {(one.emergency_id, one.state) for one in changed} == {
        ("e1", EmergencyState.PARTIAL),
        ("d", EmergencyState.PARTIAL),
    }
    write(emergency("e1", EmergencyState.RESOLVED))
    assert (set(book.standing), book.under_way) == ({"d"}, set())
    assert [one.state for one in book.take_changed()] == [EmergencyState.RESOLVED]
    assert book.take_changed() == []


def test_an_emergency_that_could_not_be_looked_at_is_never_passed_over(codec: Codec) -> None:
    """The registry is away for a moment: the record may need the last resort, so the process begins anew."""

    class Away(LocalRegistry):
        def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
            raise RegistryError("no answer")

    book = EmergencyBook(Codec(Away()))
    book.record(record("e1", codec.encode(emergency("e1"), "any")))
    assert isinstance(book.failure, RegistryError)
