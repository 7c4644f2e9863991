"""The bounds that a report must keep. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from emergency_stop.domain.values import EmergencyState
from tests.bench.stop.phase_names import LONE_BOUNCED, OVERLOAD, REBALANCE, UNLOADED, Loss

UNLOADED_P99_MS: Final = 500
ALWAYS_MS: Final = 5_000
#: The same while a broker is gone without a word: the others must find out, and elect, before anything can pass.
SUCCEEDED_MS: Final = 10_000
PERMIT_US: Final = 2.0
#: Phases in which one emergency comes after the other, and every one has a way to its services; with their bounds.
BOUNDS_MS: Final[Mapping[str, int]] = {
    **dict.fromkeys((UNLOADED, OVERLOAD, REBALANCE, Loss.BOUNCED), ALWAYS_MS),
    **dict.fromkeys((Loss.KILLED, Loss.HUNG), SUCCEEDED_MS),
}


def failures(report: Mapping[str, Any]) -> list[str]:
    """What is wrong, one line each; phases that were left out are not missed.

    What was measured on a cluster is under ``cluster``, in the same form.
    """
    of_cluster = [f"cluster: {line}" for line in failures(report["cluster"])] if "cluster" in report else []
    return [*_levels(report), *_times(report), *_counts(report), *of_cluster]


def _levels(report: Mapping[str, Any]) -> Iterator[str]:
    """Nothing is killed while every level is tried, so each must be carried out as it was asked for."""
    for level, outcomes in report.get("levels", {}).items():
        others = {outcome: count for outcome, count in outcomes.items() if outcome != EmergencyState.STOPPED.value}
        if others:
            yield f"{level}: not stopped as asked: {others}"


def _times(report: Mapping[str, Any]) -> Iterator[str]:
    p99 = report.get(UNLOADED, {}).get("immediate_ms", {}).get("p99", 0)
    if p99 >= UNLOADED_P99_MS:
        yield f"unloaded: 99 % of immediate stops within {p99} ms; the bound is {UNLOADED_P99_MS}"
    for phase, bound_ms in BOUNDS_MS.items():
        longest = report.get(phase, {}).get("immediate_ms", {}).get("max", 0)
        if longest >= bound_ms:
            yield f"{phase}: an immediate stop took {longest} ms; the bound is {bound_ms}"
    # where the only broker is away there is no way to anybody, so the bound counts from when it answers again
    longest = report.get(LONE_BOUNCED, {}).get("after_broker_answers_ms", {}).get("max", 0)
    if longest >= ALWAYS_MS:
        yield f"{LONE_BOUNCED}: a stop took {longest} ms after the broker answered; the bound is {ALWAYS_MS}"
    for phase in (*BOUNDS_MS, LONE_BOUNCED):
        if report.get(phase, {}).get("partial", 0):
            yield f"{phase}: {report[phase]['partial']} emergencies ended PARTIAL, and nobody was killed"
    permit_us = report.get("permit_us", {}).get("async with", 0.0)
    if permit_us > PERMIT_US:
        yield f"a permit costs {permit_us} µs; the bound is {PERMIT_US}"


def _counts(report: Mapping[str, Any]) -> Iterator[str]:
    acks = report.get("accounting", {"acks_expected": 0, "acks_accounted": 0, "claims_without_ack": 0})
    missing = acks["acks_expected"] - acks["acks_accounted"]
    if missing:
        yield f"{missing} answers of {acks['acks_expected']} are accounted for nowhere"
    if acks["claims_without_ack"]:
        yield f"{acks['claims_without_ack']} instances count as stopped and never said so"
    for crowd in ("crowd_burst", "crowd_by_one_cause"):
        granted = report.get(crowd, {}).get("permits_granted", 0)
        if granted:
            yield f"{crowd}: {granted} permits were granted after the gate was shut"
    if report.get("side_effects_after_stop", 0):
        yield f"{report['side_effects_after_stop']} side effects after a stop was proven"
    if report.get("clock_contradictions"):
        yield f"times that the witness's clock contradicts: {report['clock_contradictions'][:3]}"
