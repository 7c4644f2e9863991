"""Mermaid state diagrams of the machines, drawn from their tables so that they cannot drift."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from emergency_stop.coordinate.lease_table import LEASE
from emergency_stop.coordinate.tables import EMERGENCY, HOLD, INSTANCE, RECOVERY, Machine

_INTRODUCTION: Final = {
    "instance": "Where one instance of one target service stands in one emergency.",
    "emergency": "One emergency, from its cause to its end. Queued, stopping and escalated are `stopping` on the wire,"
    " and restoring is `recovering`. A drill walks the same way, holds nothing, and ends with its answers.",
    "hold": "Whether a scope may act. Every change has a new epoch.",
    "lease": "Whether an instance may act, as far as the coordinator's word goes; what holds say applies besides.",
    "recovery": "One attempt to undo an emergency. The hold is in force until full restore.",
}


def diagram(machine: Machine[Any, Any]) -> str:
    """One Mermaid ``stateDiagram-v2``: an arrow per pair of states, its events in the table's order."""
    arrows: dict[tuple[StrEnum, StrEnum], list[str]] = {}
    for (state, event), following in machine.table.items():
        arrows.setdefault((state, following), []).append(event.value)
    lines = [f"    {a.value} --> {b.value}: {', '.join(events)}" for (a, b), events in arrows.items()]
    begins = (machine.initial, *machine.other_initials)
    ends = sorted({b.value for _, b in arrows} - {a.value for a, _ in arrows})
    return "\n".join(
        [
            "stateDiagram-v2",
            *(f"    [*] --> {begin.value}" for begin in begins),
            *lines,
            *(f"    {end} --> [*]" for end in ends),
        ]
    )


def documents() -> Mapping[str, str]:
    """Every page of ``docs/state-machines``: file name → Markdown."""
    machines: tuple[Machine[Any, Any], ...] = (EMERGENCY, INSTANCE, HOLD, RECOVERY, LEASE)
    tables = {LEASE.name: "lease_table.py"}
    return {
        f"{machine.name}.md": f"# The {machine.name} machine\n\n{_INTRODUCTION[machine.name]}\n\n"
        f"Generated from `streams/emergency_stop/coordinate/{tables.get(machine.name, 'tables.py')}` by"
        " `docs/state-machines/generate.py`;"
        " a pair of state and event that has no arrow is refused and changes nothing.\n\n"
        f"```mermaid\n{diagram(machine)}\n```\n"
        for machine in machines
    }
