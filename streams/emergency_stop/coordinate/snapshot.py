"""A scope ⇄ bytes, for the state log: one JSON record with the version of its form, the scope's state, and
the effects of decisions that it contains and that may not have reached the broker yet.

A large one is packed. It says the same of thousands of instances, and every reason many times over, so that packs well;
in parts it would not be one record, and a crash could leave half of a decision behind.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from emergency_stop.coordinate.state import Effect, ScopeState
from emergency_stop.domain.messages import AuditRecord, Command, ConditionQuestion, Emergency, Hold, Recovery
from emergency_stop.wire.codec import from_plain, to_plain

VERSION: Final = 1
#: A record from so many bytes on is packed.
PACKED_FROM_BYTES: Final = 256 * 1024
#: How a packed record begins; JSON does not.
_PACKED: Final = b"z"
_PACKING_LEVEL: Final = 1
_SCOPE_PREFIX: Final = b"scope:"
_EFFECTS: Final[Mapping[str, type[Effect]]] = {
    kind.__name__: kind for kind in (Hold, Command, Emergency, Recovery, ConditionQuestion, AuditRecord)
}


class SnapshotError(ValueError):
    """A state record cannot be read. The partition must not start without it: it may be a hold."""


def scope_key(scope: str) -> bytes:
    return _SCOPE_PREFIX + scope.encode()


def scope_of(key: bytes) -> str:
    """The scope whose record ``key`` names."""
    return key.removeprefix(_SCOPE_PREFIX).decode()


def scope_record(state: ScopeState, outbox: Sequence[Effect] = ()) -> bytes:
    effects = [{"kind": type(effect).__name__, **_plain_effect(effect)} for effect in outbox]
    return _dump({"state": to_plain(state), "outbox": effects})


def _plain_effect(effect: Effect) -> dict[str, Any]:
    # signed when it is published, with the key of that time
    return {name: value for name, value in to_plain(effect).items() if name != "signature"}


def read_scope(key: bytes, value: bytes) -> tuple[ScopeState, list[Effect]]:
    """(state, effects to publish again). Raises ``SnapshotError``, also for a record under another scope's key."""
    try:
        content = _load(key, value)
        state = from_plain(ScopeState, content["state"])
        outbox = [_read_effect(effect) for effect in content["outbox"]]
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"state record {key!r} does not hold a scope: {error}") from error
    if scope_key(state.scope) != key:
        raise SnapshotError(f"state record {key!r} holds another scope: {state.scope!r}")
    return state, outbox


def _read_effect(plain: Mapping[str, Any]) -> Effect:
    return from_plain(_EFFECTS[plain["kind"]], plain)


def _dump(content: dict[str, Any]) -> bytes:
    plain = json.dumps({"version": VERSION, **content}, separators=(",", ":"), ensure_ascii=False).encode()
    return plain if len(plain) < PACKED_FROM_BYTES else _PACKED + zlib.compress(plain, _PACKING_LEVEL)


def _load(key: bytes, value: bytes) -> dict[str, Any]:
    try:
        content = json.loads(zlib.decompress(value[1:]) if value.startswith(_PACKED) else value)
    except (ValueError, zlib.error) as error:
        raise SnapshotError(f"state record {key!r} is not JSON: {error}") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise SnapshotError(
            f"state record {key!r} has version {version!r}; this program reads {VERSION}."
            " Run the program that wrote it, or a newer one"
        )
    return dict(content)
