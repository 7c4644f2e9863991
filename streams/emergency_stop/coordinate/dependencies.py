"""The order in which services that depend on each other may come back, or must go.

Restored in the order of ``tiers``, a service finds what it depends on at work; stopped in the reverse order, it loses
nothing that it still uses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import TopologicalSorter

#: A service, and what it depends on directly; one that is not named depends on nothing.
DependsOn = Mapping[str, Collection[str]]


def tiers(names: Iterable[str], depends_on: DependsOn) -> tuple[tuple[str, ...], ...]:
    """``names`` in tiers, dependencies first; sorted within a tier, each name once, no tier empty.

    Services that depend on each other in a circle share a tier. What lies between two of ``names`` orders them
    though it is none of them.
    """
    wanted = frozenset(names)
    reach = _reach(wanted, depends_on)
    component = {name: _component(name, reach) for name in reach}
    order: TopologicalSorter[tuple[str, ...]] = TopologicalSorter()
    for name, reached in reach.items():
        order.add(component[name], *({component[other] for other in reached} - {component[name]}))
    order.prepare()
    found: list[tuple[str, ...]] = []
    while order.is_active():
        ready = order.get_ready()
        order.done(*ready)
        found.append(tuple(sorted(name for part in ready for name in part if name in wanted)))
    return tuple(tier for tier in found if tier)


def cycles(depends_on: DependsOn) -> tuple[tuple[str, ...], ...]:
    """Every circle of services that depend on each other, sorted; one that depends on itself is a circle."""
    reach = _reach(depends_on, depends_on)
    return tuple(sorted({_component(name, reach) for name, reached in reach.items() if name in reached}))


def _reach(names: Iterable[str], depends_on: DependsOn) -> dict[str, frozenset[str]]:
    """Of ``names`` and all that they need: what each needs, directly or not."""
    reach: dict[str, frozenset[str]] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in reach:
            reach[name] = _needed(name, depends_on)
            waiting += reach[name]
    return reach


def _needed(name: str, depends_on: DependsOn) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(depends_on.get(name, ()))
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += depends_on.get(other, ())
    return frozenset(found)


def _component(name: str, reach: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Everything that depends on ``name`` and that it depends on; at least itself."""
    return tuple(sorted({name, *(other for other in reach[name] if name in reach[other])}))
