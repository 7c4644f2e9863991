"""Deterministic identifiers: the same cause always makes the same id, so a duplicate is recognised."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final
from uuid import UUID, uuid5

from emergency_stop.domain.values import AckState, Action

#: Root of every id of this system; changing it makes all ids new.
NAMESPACE: Final = UUID("6f1d2c7e-58f3-5d0b-9a3c-0e5a7b9c4d21")

#: So many newest ids are remembered, some MB: each answer is compared with the ids of all commands of its emergency.
_REMEMBERED: Final = 8_192


# typed, because JSON tells 1 from True, and a dict's key does not
@lru_cache(maxsize=_REMEMBERED, typed=True)
def derived_id(kind: str, *parts: str | int) -> str:
    """UUIDv5 of ``kind`` and ``parts``. Injective: parts are joined as JSON, so no two lists run together."""
    return str(uuid5(NAMESPACE, json.dumps([kind, *parts], ensure_ascii=True)))


def hit_cause(hit_id: str) -> str:
    """``Emergency.cause`` of a hit."""
    return f"hit:{hit_id}"


def request_cause(request_id: str) -> str:
    """``Emergency.cause`` of a request. Whoever sends a stop can so compute its emergency's id beforehand."""
    return f"request:{request_id}"


def emergency_id(cause: str) -> str:
    """The emergency that ``cause`` (see ``hit_cause``, ``request_cause``) opens."""
    return derived_id("emergency", cause)


def command_id(emergency: str, service: str, epoch: int, action: Action, attempt: int) -> str:
    return derived_id("command", emergency, service, epoch, action.value, attempt)


def ack_id(command: str, instance_id: str, state: AckState) -> str:
    return derived_id("ack", command, instance_id, state.value)
