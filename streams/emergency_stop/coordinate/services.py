"""The services and their instances as they announced themselves (topic ``estop.services``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final

from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.values import ALL_SERVICES, InstanceState, Scope, ScopeKind

#: An instance that was silent for so many times the lost-heartbeat limit is no longer counted as one:
#: a process that was killed never says that it left, and its successor has another id.
FORGOTTEN_AFTER_LIMITS: Final = 20


class Liveness(StrEnum):
    LIVE = "live"
    LOST = "lost"
    LEFT = "left"


#: Service, instance, what it counts as, and when it was started.
Member = tuple[str, str, Liveness, int]


class Services:
    """An immutable snapshot. ``known`` are the configured services: only those have a command topic."""

    def __init__(self, known: tuple[str, ...], instances: Iterable[ServiceInstance] = ()) -> None:
        self.known = known
        self._by_service: dict[str, dict[str, ServiceInstance]] = {}
        for instance in instances:
            self._by_service.setdefault(instance.service, {})[instance.instance_id] = instance

    def named(self, services: tuple[str, ...], scope: Scope) -> tuple[str, ...]:
        """The services that a stop of ``scope`` for ``services`` concerns, sorted.

        Nothing named means all: a stop is never lost to an empty list. ``all`` includes services that
        announced themselves without being configured.
        """
        if scope.kind is ScopeKind.SERVICE:
            return (scope.name,)
        if not services or ALL_SERVICES in services:
            return tuple(sorted({*self.known, *self._by_service}))
        return tuple(sorted(set(services)))

    def instances(self, service: str, now_ms: int, lost_ms: int) -> dict[str, tuple[ServiceInstance, Liveness]]:
        """Every instance of ``service`` that counts at ``now_ms``, by id."""
        found: dict[str, tuple[ServiceInstance, Liveness]] = {}
        for instance_id, instance in sorted(self._by_service.get(service, {}).items()):
            silent_ms = now_ms - instance.heartbeat_at
            if instance.state is InstanceState.LEFT:
                found[instance_id] = (instance, Liveness.LEFT)
            elif silent_ms <= lost_ms:
                found[instance_id] = (instance, Liveness.LIVE)
            elif silent_ms <= lost_ms * FORGOTTEN_AFTER_LIMITS:
                found[instance_id] = (instance, Liveness.LOST)
        return found

    def depends_on(self, declared: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
        """What each service depends on: by what any instance of it announced, and as ``declared``."""
        found = {service: frozenset(others) for service, others in declared.items()}
        for service, instances in self._by_service.items():
            announced = frozenset(other for one in instances.values() for other in one.depends_on)
            found[service] = found.get(service, frozenset()) | announced
        return found

    def membership(self, now_ms: int, lost_ms: int) -> frozenset[Member]:
        """Who counts as what at ``now_ms``, and since when it runs: changes only when a stop could be concerned."""
        return frozenset(
            (service, instance_id, liveness, instance.started_at)
            for service in self._by_service
            for instance_id, (instance, liveness) in self.instances(service, now_ms, lost_ms).items()
        )
