"""The bounds that a report must keep. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from emergency_stop.domain.values import EmergencyState

UNLOADED_P99_MS: Final = 500
ALWAYS_MS: Final = 5_000
PERMIT_US: Final = 2.0
#: Phases in which one emergency comes after the other.
ONE_BY_ONE: Final = ("unloaded", "overload", "broker_bounced", "rebalance")


def failures(report: Mapping[str, Any]) -> list[str]:
    """What is wrong, one line each; phases that were left out are not missed."""
    return [*_levels(report), *_times(report), *_counts(report)]


def _levels(report: Mapping[str, Any]) -> Iterator[str]:
    """Nothing is killed while every level is tried, so each must be carried out as it was asked for."""
    for level, outcomes in report.get("levels", {}).items():
        others = {outcome: count for outcome, count in outcomes.items() if outcome != EmergencyState.STOPPED.value}
        if others:
            yield f"{level}: not stopped as asked: {others}"


def _times(report: Mapping[str, Any]) -> Iterator[str]:
    p99 = report.get("unloaded", {}).get("immediate_ms", {}).get("p99", 0)
    if p99 >= UNLOADED_P99_MS:
        yield f"unloaded: 99 % of immediate stops within {p99} ms; the bound is {UNLOADED_P99_MS}"
    for phase in ONE_BY_ONE:
        longest = report.get(phase, {}).get("immediate_ms", {}).get("max", 0)
        if longest >= ALWAYS_MS:
            away_ms = max(report[phase].get("outages_ms", [0]))
            away = f" (the broker itself was away for {away_ms} ms)" if away_ms else ""
            yield f"{phase}: an immediate stop took {longest} ms; the bound is {ALWAYS_MS}{away}"
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
