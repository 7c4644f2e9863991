"""Every way in which telemetry arrives broken, made from a good event."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from emergency_stop.wire.codec import HEADER_BYTES, encode_record

Encode = Callable[[dict[str, Any]], bytes]
#: (key, value) of one broken message.
Broken = tuple[bytes | None, bytes | None]


def broken_messages(fields: dict[str, Any], schema_id: int) -> dict[str, Broken]:
    """By name, from the fields of a good ``HealthEvent``. None of them may be accepted."""

    def encode(**changes: Any) -> bytes:
        return encode_record("HealthEvent", {**fields, **changes}, schema_id)

    key, good = str(fields["account_id"]).encode(), encode()
    head, body = good[:HEADER_BYTES], good[HEADER_BYTES:]
    return {
        "null key": (None, good),
        "null value": (key, None),
        "empty value": (key, b""),
        "JSON text": (key, b'{"health_score": 12}'),
        "truncated": (key, good[:-4]),
        "trailing bytes": (key, good + b"\x00"),
        "overlong varint": (key, head + b"\xff" * 11 + b"\x01" + body),
        "negative length": (key, head + b"\x01" + body[1:]),
        "huge length": (key, head + b"\xfe\xff\xff\xff\x7f" + body[1:]),
        "unknown schema id": (key, b"\x00\x7f\xff\xff\xfe" + body),
        "wrong magic byte": (key, b"\x07" + good[1:]),
        "other record's schema": (key, b"\x00" + (schema_id + 1).to_bytes(4, "big") + body),
        "key of another account": (key + b"-other", good),
        "NaN score": (key, encode(health_score=math.nan)),
        "infinite score": (key, encode(risk_score=math.inf)),
        "negative infinite score": (key, encode(risk_score=-math.inf)),
        "future timestamp": (key, encode(occurred_at=int(fields["occurred_at"]) + 3_600_000)),
        "negative timestamp": (key, encode(occurred_at=-1)),
        "empty account id": (b"", encode(account_id="")),
        "account id too long to be stopped": (b"x" * 300, encode(account_id="x" * 300)),
        "white space after the account id": (key + b" ", encode(account_id=key.decode() + " ")),
    }


NAMES: Final = tuple(
    broken_messages(
        {
            "event_id": "", "account_id": "", "occurred_at": 0, "health_score": 0.0, "risk_score": 0.0, "source": "",
            "correlation_id": None,
        },
        1,
    )
)  # fmt: skip
