"""The watch over this process's use: what it says, whom it tells, and that nothing of it can hurt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from emergency_stop.adapters import usage_reports, usage_watch
from emergency_stop.adapters.usage_reports import UsageReporter, host_of
from emergency_stop.adapters.usage_watch import UsageCollector, UsageWatch, bounds_of, watched
from emergency_stop.config import Settings
from emergency_stop.domain.usage import Bounds, Resource, Sample, Usage, observe
from emergency_stop.domain.values import OWN_PROCESSES
from emergency_stop.wire.registry import LocalRegistry

BOUNDS = Bounds(80.0, 100, 1.0)
DEADLINE_S = 30


@dataclass
class FakeMeter:
    """Gives what ``samples`` has, one after the other, and fails where that is an error."""

    samples: Iterator[Sample | Exception]

    def sample(self) -> Sample:
        found = next(self.samples)
        if isinstance(found, Exception):
            raise found
        return found

    def open_connections(self) -> int:
        return 7


@dataclass
class Seen:
    """What a watch told."""

    usages: list[Usage] = field(default_factory=list)
    given_back: int = 0

    def give_back(self) -> None:
        self.given_back += 1


def memory(*values: int | Exception) -> Iterator[Sample | Exception]:
    for number, value in enumerate(values):
        yield value if isinstance(value, Exception) else Sample(number * 1_000, 0.0, value)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0.002)


def has_looked(watch: UsageWatch) -> Callable[[], bool]:
    return lambda: watch.usage.memory_bytes > 0


def look(*values: int | Exception) -> tuple[UsageWatch, Seen]:
    """A watch that has taken ``values``. To be called on a running loop."""
    seen = Seen()
    watch = UsageWatch(BOUNDS, "this is left off", FakeMeter(memory(*values)), seen.give_back)
    watch.listen(seen.usages.append)
    for _ in values:
        watch._look()
    return watch, seen


async def test_a_crossing_is_said_once_with_its_setting_and_what_is_left_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, usage_watch.__name__)
    watch, seen = look(50, *[101, 100] * 20, *[90] * 32)
    warning, back = (record for record in caplog.records if record.name == usage_watch.__name__)
    assert warning.getMessage() == (
        "memory: 101 bytes exceed MAX_MEMORY_USAGE=100. Until it is 90 % of it or less for 30 s, this is left off."
        " Stops are not concerned"
    )
    assert (warning.levelname, back.levelname) == ("WARNING", "INFO")
    assert "within MAX_MEMORY_USAGE=100 again" in back.getMessage()
    assert not watch.is_over()
    over = [usage.is_over() for usage in seen.usages]
    assert (over[0], over[1], over[40], over[-1]) == (False, True, True, False)
    await until(lambda: seen.given_back == 1)


async def test_who_cannot_measure_says_so_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, usage_watch.__name__)
    watch, seen = look(50, psutil.AccessDenied(1), OSError("gone"), 101)
    told = [record for record in caplog.records if "could not be measured" in record.getMessage()]
    assert len(told) == 1
    assert watch.is_over_memory()
    assert len(seen.usages) == 2


async def test_the_metrics_tell_bounds_and_which_are_exceeded() -> None:
    watch, _ = look(101)
    reporter = UsageReporter("alpha", Settings(), LocalRegistry(), lambda: watch.usage, watch.meter)
    registry = CollectorRegistry()
    registry.register(UsageCollector(watch, reporter))
    told = generate_latest(registry).decode()
    for line in (
        'estop_process_over_bound{resource="memory"} 1.0',
        'estop_process_over_bound{resource="cpu"} 0.0',
        'estop_process_bound{resource="memory"} 100.0',
        'estop_process_bound{resource="cpu"} 80.0',
        'estop_usage_reports_total{outcome="written"} 0.0',
    ):
        assert line in told.splitlines()


async def test_a_watch_can_be_run_twice_and_leaves_nothing_behind() -> None:
    settings = Settings(usage_report_ms=0)
    for _ in range(2):
        watch = UsageWatch.of(settings)
        async with watched(watch, "alpha", settings):
            await until(has_looked(watch))
        assert [task for task in asyncio.all_tasks() if "usage" in task.get_name()] == []


def test_the_settings_are_the_bounds() -> None:
    bounds = bounds_of(Settings(cpu_percent_max=50, memory_bytes_max=1 << 30), 1.5)
    assert (bounds.of(Resource.CPU), bounds.of(Resource.MEMORY), bounds.processors) == (50.0, float(1 << 30), 1.5)


@pytest.mark.parametrize(
    ("instance_id", "host"),
    [("unnamed-1234", "machine"), ("sink-1", "machine/sink-1"), ("x" * 300, "machine"), ("sink ", "machine")],
)
def test_who_has_a_name_is_told_apart_on_one_machine(instance_id: str, host: str) -> None:
    """Unless it makes no id of an account: then nobody could be told anything."""
    assert host_of(Settings(instance_id=instance_id), "estop-sink", "machine") == host


async def test_a_broker_that_is_away_costs_a_report_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(brokers="127.0.0.1:1", usage_report_ms=1)
    usage = Usage()
    for second in range(12):
        usage, _ = observe(usage, Sample(second * 1_000, second * 900.0, 50), BOUNDS)
    assert usage.is_over(Resource.CPU)
    reporter = UsageReporter("alpha", settings, LocalRegistry(), lambda: usage, FakeMeter(memory()))
    running = asyncio.create_task(reporter.run())
    with caplog.at_level(logging.WARNING, logger=usage_reports.__name__):  # whatever tests before it have set
        await until(lambda: reporter.lost >= 2)
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})
    assert reporter.written == 0
    assert len([one for one in caplog.records if "could not be reported" in one.getMessage()]) == 1


async def test_who_is_within_its_bounds_connects_to_nobody() -> None:
    usage, _ = observe(Usage(), Sample(0, 0.0, 50), BOUNDS)
    asked = 0

    def known() -> Usage:
        nonlocal asked
        asked += 1
        return usage

    settings = Settings(brokers="127.0.0.1:1", usage_report_ms=1)
    reporter = UsageReporter("alpha", settings, LocalRegistry(), known, FakeMeter(memory()))
    running = asyncio.create_task(reporter.run())
    await until(lambda: asked > 5)
    running.cancel()
    await asyncio.wait({running})
    assert (reporter.written, reporter.lost) == (0, 0)


def test_the_processes_are_known_by_the_names_that_they_report_under() -> None:
    """Whatever else calls itself so could not be stopped: its hits only warn."""
    from emergency_stop.apps import coordinator, detector_lanes
    from emergency_stop.apps.notifier import main as notifier
    from emergency_stop.apps.sink import main as sink

    assert {coordinator.APP_ID, detector_lanes.GROUP, notifier.GROUP, sink.GROUP} == set(OWN_PROCESSES)
