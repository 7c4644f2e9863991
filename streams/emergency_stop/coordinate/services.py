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
    """Who announced itself, and when each was heard; changes in place, by ``put`` and ``remove`` alone.

    ``known`` are the configured services: only those have a command topic. An instance counts as alive by its own date
    of its heartbeat, or by when the reader heard that, by the reader's clock: so nobody is left out whose clock is
    behind, and no clocks need agree for a stop to be claimed of everybody. ``may_act_ms`` is how long it may act after
    its last heartbeat: for so long at least it counts.
    """

    def __init__(
        self, known: tuple[str, ...], instances: Iterable[ServiceInstance] = (), *, may_act_ms: int = 0
    ) -> None:
        self.known = known
        self._may_act_ms = may_act_ms
        self._by_service: dict[str, dict[str, ServiceInstance]] = {}
        #: The later of the instance's date and of when it was heard.
        self._seen_at: dict[tuple[str, str], int] = {}
        for instance in instances:
            self.put(instance)

    def put(self, instance: ServiceInstance, heard_at: int | None = None) -> None:
        """The newest announcement of an instance; ``heard_at`` ``None``: not known."""
        self._by_service.setdefault(instance.service, {})[instance.instance_id] = instance
        dated = instance.heartbeat_at
        self._seen_at[instance.service, instance.instance_id] = dated if heard_at is None else max(dated, heard_at)

    def remove(self, service: str, instance_id: str) -> None:
        """Strike an instance out; nothing where it is not known."""
        instances = self._by_service.get(service, {})
        instances.pop(instance_id, None)
        self._seen_at.pop((service, instance_id), None)
        if not instances:
            self._by_service.pop(service, None)

    def counts_ms(self, lost_ms: int) -> int:
        """How long an instance counts after it was seen last, where it is lost after ``lost_ms``."""
        return max(lost_ms * FORGOTTEN_AFTER_LIMITS, self._may_act_ms)

    def forget(self, before_ms: int) -> list[tuple[str, str]]:
        """Strike out whoever was not seen since ``before_ms``, and left or counts no more; returns whom.

        Of each service the one stays that was seen last, so that a stop of everything names the service; and the last
        that left, because a service counts as stopped when all that was known of it left.
        """
        gone: list[tuple[str, str]] = []
        for service, instances in self._by_service.items():
            by_age = sorted((self._seen_at[service, one], one) for one in instances)
            left = [one for one in by_age if instances[one[1]].state is InstanceState.LEFT]
            kept = {*by_age[-1:], *left[-1:]}
            gone += [(service, one[1]) for one in by_age if one not in kept and one[0] < before_ms]
        for key in gone:
            self.remove(*key)
        return gone

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
        counts_ms = self.counts_ms(lost_ms)
        for instance_id, instance in sorted(self._by_service.get(service, {}).items()):
            silent_ms = now_ms - self._seen_at[service, instance_id]
            if instance.state is InstanceState.LEFT:
                found[instance_id] = (instance, Liveness.LEFT)
            elif silent_ms <= lost_ms:
                found[instance_id] = (instance, Liveness.LIVE)
            elif silent_ms <= counts_ms:
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
