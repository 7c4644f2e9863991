"""Why an input was not accepted: one enum for kernels, metrics, dead letters and documentation."""

from __future__ import annotations

from enum import IntEnum, unique

from emergency_stop.domain.values import ACCOUNT_ID_LENGTH_MAX


@unique
class Reject(IntEnum):
    """The value is the code that the kernels write; 0 means accepted."""

    NULL_KEY = 1
    NULL_VALUE = 2
    BAD_MAGIC = 3
    SHORT_VALUE = 4
    UNKNOWN_SCHEMA = 5
    TRUNCATED = 6
    OVERLONG_VARINT = 7
    BAD_LENGTH = 8
    TRAILING_BYTES = 9
    BAD_ENUM = 10
    BAD_UNION = 11
    BAD_BOOLEAN = 12
    NOT_FINITE = 13
    FUTURE_TIMESTAMP = 14
    NEGATIVE_TIMESTAMP = 15
    KEY_MISMATCH = 16
    MALFORMED_RECORD = 17
    WRONG_RECORD = 18
    BAD_UTF8 = 19
    TOO_DEEP = 20
    UNDECODABLE = 21
    BAD_ACCOUNT_ID = 22

    @property
    def label(self) -> str:
        """The name in metrics and dead-letter headers."""
        return self.name.lower()

    @property
    def explanation(self) -> str:
        """One sentence: what is wrong and what the producer should do."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Reject.NULL_KEY: "the message has no key; telemetry must be keyed by account id",
    Reject.NULL_VALUE: "the message has no value; send an Avro record",
    Reject.BAD_MAGIC: "the value does not start with 0x00 or 0x01; use the Confluent wire format",
    Reject.SHORT_VALUE: "the value is shorter than the header of the Confluent wire format",
    Reject.UNKNOWN_SCHEMA: "the schema id is not in the registry; register the writer's schema first",
    Reject.TRUNCATED: "the Avro body ends before its last field",
    Reject.OVERLONG_VARINT: "a varint is longer than its type allows",
    Reject.BAD_LENGTH: "a length is negative or larger than the message",
    Reject.TRAILING_BYTES: "bytes follow the last field; the schema id does not fit the value",
    Reject.BAD_ENUM: "an enum index is outside its symbols",
    Reject.BAD_UNION: "a union branch is outside the schema's branches",
    Reject.BAD_BOOLEAN: "a boolean is neither 0 nor 1",
    Reject.NOT_FINITE: "a number is NaN or infinite; send finite numbers only",
    Reject.FUTURE_TIMESTAMP: "occurred_at is over 60 s after the record's own timestamp; check the producer's clock",
    Reject.NEGATIVE_TIMESTAMP: "occurred_at is before 1970",
    Reject.KEY_MISMATCH: "the key is not the value's account_id; key telemetry by account id",
    Reject.MALFORMED_RECORD: "the record's own framing inside its batch is broken",
    Reject.WRONG_RECORD: "the writer's schema is of another record than this topic carries",
    Reject.BAD_UTF8: "a string is not UTF-8",
    Reject.TOO_DEEP: "values are nested deeper than 32 levels",
    Reject.UNDECODABLE: "the Avro body cannot be read by its schema",
    Reject.BAD_ACCOUNT_ID: f"the account id can be no scope, so it could not be stopped: use 1 to"
    f" {ACCOUNT_ID_LENGTH_MAX} characters without white space at the ends, in telemetry.system with a service's name"
    " (letters, digits, '.', '-', '_') before the @",
}

#: How far ``occurred_at`` may lie after the record's timestamp.
FUTURE_MS_MAX = 60_000
