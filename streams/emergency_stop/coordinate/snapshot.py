"""A scope's state ⇄ bytes, for the state log. One record per scope, JSON, with the version of its form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from emergency_stop.coordinate.state import ScopeState
from emergency_stop.wire.codec import from_plain

VERSION: Final = 1
_SCOPE_PREFIX: Final = b"scope:"


class SnapshotError(ValueError):
    """A state record cannot be read. The partition must not start without it: it may be a hold."""


def scope_key(scope: str) -> bytes:
    return _SCOPE_PREFIX + scope.encode()


def scope_record(state: ScopeState) -> bytes:
    return _dump({"state": dataclasses.asdict(state)})


def read_scope(key: bytes, value: bytes) -> ScopeState:
    """Raises ``SnapshotError``, also for a record that lies under another scope's key."""
    try:
        state = from_plain(ScopeState, _load(key, value)["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"state record {key!r} does not hold a scope: {error}") from error
    if scope_key(state.scope) != key:
        raise SnapshotError(f"state record {key!r} holds another scope: {state.scope!r}")
    return state


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **content}, separators=(",", ":"), ensure_ascii=False).encode()


def _load(key: bytes, value: bytes) -> dict[str, Any]:
    try:
        content = json.loads(value)
    except ValueError as error:
        raise SnapshotError(f"state record {key!r} is not JSON: {error}") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise SnapshotError(
            f"state record {key!r} has version {version!r}; this program reads {VERSION}."
            " Run the program that wrote it, or a newer one"
        )
    return dict(content)
