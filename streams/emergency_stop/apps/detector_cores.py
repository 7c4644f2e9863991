"""Makes the cores of a detector's partitions over what all partitions of its process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.apps.question_desk import QuestionDesk, Sight
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.columnar.batches import Scratch
from emergency_stop.config import Settings
from emergency_stop.detect.condition_answers import ConditionBook
from emergency_stop.detect.recording import CHANGES_MAX, Recording
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import Registry


def recording_of(settings: Settings) -> Recording:
    """Which evaluations are kept: what changed, and everything where the settings ask for it."""
    return Recording(
        rows_max=settings.evaluations_max if settings.detailed_logging else 0,
        changes_max=CHANGES_MAX,
        clear_margin_percent=settings.clear_margin_percent,
    )


@dataclass(frozen=True, kw_only=True)
class CoreMaker:
    """``make`` is a ``LaneSpec.core_factory``; ``cores`` has the newest core of each partition, for metrics."""

    settings: Settings
    registry: Registry
    codec: Codec
    book: TriggerBook
    sight: Sight
    cores: dict[int, DetectorCore] = field(default_factory=dict)
    #: All cores work on one thread, one batch after the other.
    _scratch: Scratch = field(default_factory=Scratch, init=False)
    _conditions: ConditionBook = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_conditions", ConditionBook(self.settings.clear_margin_percent))

    def make(self, partition: int) -> DetectorCore:
        """A core without state, which the worker restores next."""
        settings = self.settings
        self.cores[partition] = DetectorCore(
            self.registry,
            self.codec,
            self.book.plan,
            self._scratch,
            partition=partition,
            enforcing=settings.enabled,
            interval_ms=settings.trigger_detection_interval_ms,
            desk=QuestionDesk(partition, self._conditions, self.sight),
            recording=recording_of(settings),
        )
        return self.cores[partition]
