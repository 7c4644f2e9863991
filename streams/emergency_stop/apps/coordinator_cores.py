"""Makes the cores of a coordinator's partitions over what all partitions of its process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from emergency_stop.apps.blind_sight import BlindSight
from emergency_stop.apps.coordinator_core import CoordinatorCore, home_partition
from emergency_stop.apps.coordinator_metrics import CoordinatorMetrics
from emergency_stop.apps.coordinator_telling import Telling
from emergency_stop.apps.coordinator_topics import Layout
from emergency_stop.apps.coordinator_watches import Watches
from emergency_stop.apps.procedure_file import load_procedures
from emergency_stop.apps.service_book import HoldBook, ServiceBook
from emergency_stop.config import Settings
from emergency_stop.coordinate.blast import BlastLimits, RecentStops
from emergency_stop.coordinate.blast_watch import BlastWatch
from emergency_stop.coordinate.blind_watch import BlindWatch
from emergency_stop.coordinate.leases import Attendance, LeaseTurns
from emergency_stop.coordinate.state import Policy
from emergency_stop.domain.values import GLOBAL_SCOPE
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.signing import MessageSigner


def policy_of(settings: Settings) -> Policy:
    """The settings that decide, as the core takes them. Raises ``ProcedureFileError``."""
    return Policy(
        immediate_stop_timeout_ms=settings.immediate_stop_timeout_ms,
        graceful_stop_timeout_ms=settings.graceful_stop_timeout_ms,
        heartbeat_lost_ms=settings.heartbeat_lost_ms,
        max_concurrent_stops=settings.max_concurrent_stops,
        issued_by=f"coordinator-{settings.instance_id}",
        automatic_stops=settings.enabled,
        dependencies=dict(settings.dependencies),
        global_resume_people=settings.global_resume_people,
        approval_expiry_ms=settings.approval_expiry_ms,
        automatic_recovery=settings.auto_recovery_enabled,
        condition_interval_ms=settings.health_monitoring_interval_ms,
        procedures=load_procedures(settings),
    )


def blast_limits_of(settings: Settings) -> BlastLimits:
    """The blast guard's settings; without automatic stops there is nothing to guard against."""
    percent = settings.blast_percent if settings.enabled else 0
    return BlastLimits(percent, settings.blast_window_ms, settings.blast_accounts_min)


def blast_watch(partition: int, partitions: int, limits: BlastLimits, stops: RecentStops) -> BlastWatch | None:
    """The guard, where ``partition`` is the home of scope ``global``: two of them would raise each cause twice."""
    is_home = home_partition(str(GLOBAL_SCOPE), partitions) == partition
    return BlastWatch(limits, stops) if is_home else None


@dataclass(frozen=True, kw_only=True)
class CoreMaker:
    """``make`` is a ``LaneSpec.core_factory``; ``cores`` has the newest core of each partition, for metrics."""

    settings: Settings
    policy: Policy
    layout: Layout
    codec: Codec
    signer: MessageSigner
    metrics: CoordinatorMetrics
    attendance: Attendance
    book: ServiceBook
    published: HoldBook
    sight: BlindSight
    cores: dict[int, CoordinatorCore] = field(default_factory=dict)

    def make(self, partition: int) -> CoordinatorCore:
        """A core without state, which the worker restores next."""
        self.cores[partition] = CoordinatorCore(
            partition=partition,
            partitions=self.layout.partitions,
            policy=self.policy,
            book=self.book,
            published=self.published.published,
            codec=self.codec,
            signer=self.signer,
            metrics=self.metrics,
            telling=Telling(self.codec, self.metrics, self.layout.told),
            watches=self._watches(partition),
            question_partitions=self.layout.questions,
        )
        return self.cores[partition]

    def _watches(self, partition: int) -> Watches:
        settings, partitions = self.settings, self.layout.partitions
        return Watches(
            blind=BlindWatch(range(partition, self.layout.telemetry, partitions), settings.blind_after_ms),
            view=self.sight.view,
            blast=blast_watch(partition, partitions, blast_limits_of(settings), self.published.stops),
            live_accounts=self.sight.live_accounts,
            leases=LeaseTurns(
                self.attendance,
                partition=partition,
                partitions=partitions,
                lease_ms=settings.lease_ms,
                issued_by=self.policy.issued_by,
            ),
        )
