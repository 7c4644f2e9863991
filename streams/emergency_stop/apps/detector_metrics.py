"""The detector's metrics, read from its counters when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.apps.evaluation_publisher import EvaluationQueue
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.apps.trigger_book import TriggerBook


class DetectorCollector(Collector):
    """Nothing is counted twice: the hot path counts per batch, and this only reads."""

    def __init__(
        self, worker: LaneWorker, cores: Mapping[int, DetectorCore], book: TriggerBook, queue: EvaluationQueue
    ) -> None:
        self._worker = worker
        self._cores = cores
        self._book = book
        self._queue = queue
        self._clock = SystemClock()

    def collect(self) -> Iterator[Metric]:
        yield from self._per_topic()
        counters = self._worker.counters
        for name, text, value in (
            ("estop_detector_batches", "Fetched batches applied.", counters.batches),
            ("estop_positions_mended", "Times the consumer was sent back to its state.", counters.mended_positions),
            ("estop_offsets_lost", "Offsets deleted by retention before they were applied.", counters.lost_offsets),
            ("estop_checkpoints", "Checkpoints made durable.", counters.checkpoints),
            ("estop_state_bytes", "State bytes written.", counters.state_bytes),
            ("estop_restores", "Partitions read back from the state log.", counters.restores),
            ("estop_triggers_refused", "Trigger records that could not be taken.", self._book.refused),
            ("estop_undecodable", "Records and record batches that could not be read.", self._undecodable()),
        ):
            yield CounterMetricFamily(name, text, value=value)
        yield GaugeMetricFamily("estop_checkpoint_ms", "Length of the last one, ms.", counters.checkpoint_ms_last)
        yield GaugeMetricFamily("estop_restore_ms", "Length of the last restore, ms.", counters.restore_ms_last)
        yield from self._standby()
        yield from self._freshness()
        yield self._answers()
        yield from self._evaluations()
        text = "Active triggers, the built-in ones not counted."
        yield GaugeMetricFamily("estop_triggers", text, self._book.count_active())
        left_out = len(self._book.left_out)
        yield GaugeMetricFamily("estop_triggers_left_out", "Triggers that there is no room for.", left_out)

    def _undecodable(self) -> int:
        return sum(core.undecodable for core in list(self._cores.values()))

    def _freshness(self) -> Iterator[Metric]:
        now_ms, blind = self._clock.now_ms(), self._worker.blind_partitions()
        age = GaugeMetricFamily(
            "estop_freshness_seconds", "Since when nothing newer is known to be applied.", labels=["topic", "partition"]
        )
        sight = GaugeMetricFamily("estop_partition_blind", "1: it stands still before its end.", labels=["partition"])
        for partition, found in self._worker.progress.freshness().items():
            sight.add_metric([str(partition)], float(partition in blind))
            for one in found:
                if one.fresh_at:
                    age.add_metric([one.topic, str(partition)], max(0, now_ms - one.fresh_at) / 1000)
        yield from (age, sight)

    def _answers(self) -> Metric:
        answers = CounterMetricFamily(
            "estop_condition_answers", "Answers to whether a condition has cleared.", labels=["partition", "state"]
        )
        for partition, core in list(self._cores.items()):
            for state, count in sorted(core.desk.given.items()) if core.desk is not None else ():
                answers.add_metric([str(partition), state], count)
        return answers

    def _evaluations(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "estop_evaluations_written", "Records of evaluations that were written.", value=self._queue.written
        )
        left_out = CounterMetricFamily(
            "estop_evaluations_left_out",
            "Changes, accounts that came near, periods, records, and evaluations that were shed: no row tells of them.",
            labels=["what"],
        )
        cores = list(self._cores.values())
        counts = [state.counts for core in cores for state in list(core.detector.topics.values())]
        left_out.add_metric(["changes"], sum(one.changes_left_out for one in counts))
        left_out.add_metric(["near"], sum(one.near_left_out for one in counts))
        left_out.add_metric(["periods"], sum(core.detector.recorder.periods_dropped for core in cores))
        left_out.add_metric(["shed"], sum(core.detector.recorder.evaluations_shed for core in cores))
        left_out.add_metric(["records"], self._queue.given_up + sum(core.evaluations_given_up for core in cores))
        yield left_out

    def _standby(self) -> Iterator[Metric]:
        standby = self._worker.standby
        if standby is None:
            return
        yield GaugeMetricFamily("estop_standby_partitions", "State partitions kept as copies.", standby.partitions)
        yield GaugeMetricFamily("estop_standby_bytes", "Bytes that these copies take.", standby.size_bytes)
        yield CounterMetricFamily("estop_standby_dropped", "Copies that exceeded the bound.", value=standby.dropped)
        yield CounterMetricFamily(
            "estop_standby_given_up", "Copies that were let go because of MAX_MEMORY_USAGE.", value=standby.given_up
        )

    def _per_topic(self) -> Iterator[Metric]:
        events = CounterMetricFamily("estop_events", "Events applied.", labels=["topic", "partition"])
        rejected = CounterMetricFamily("estop_rejected", "Events refused.", labels=["topic", "reason"])
        late = CounterMetricFamily("estop_late", "Events older than their window.", labels=["topic", "partition"])
        hits = CounterMetricFamily("estop_hits", "Hits published.", labels=["topic", "partition"])
        suppressed = CounterMetricFamily("estop_suppressed", "Hits in cooldown.", labels=["topic", "partition"])
        accounts = GaugeMetricFamily("estop_accounts", "Accounts that are remembered.", labels=["topic", "partition"])
        reasons: dict[tuple[str, str], int] = {}
        for partition, core in list(self._cores.items()):
            for topic, state in list(core.detector.topics.items()):
                counts, labels = state.counts, [topic, str(partition)]
                events.add_metric(labels, counts.events)
                late.add_metric(labels, counts.late)
                hits.add_metric(labels, counts.hits)
                suppressed.add_metric(labels, counts.suppressed)
                accounts.add_metric(labels, state.accounts.count)
                for reason, count in counts.by_reason.items():
                    reasons[topic, reason] = reasons.get((topic, reason), 0) + count
        for (topic, reason), count in reasons.items():
            rejected.add_metric([topic, reason], count)
        yield from (events, rejected, late, hits, suppressed, accounts)
