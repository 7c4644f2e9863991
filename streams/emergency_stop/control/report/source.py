"""Where history is read: a ClickHouse server, the sink that has chDB open, or chDB itself while no sink runs."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from emergency_stop.adapters.clickhouse import ClickHouse, ClickHouseUnavailableError
from emergency_stop.apps.backtest.reading import Reader
from emergency_stop.config import Settings
from emergency_stop.control.errors import UnavailableError
from emergency_stop.control.report.sections import Select

_ADDRESS_FILE: Final = "sink-query.json"
_ANSWER_S: Final = 60.0
#: A backtest asks for millions of sorted rows.
_READER_ANSWER_S: Final = 600
_NOT_MIGRATED: Final = ("UNKNOWN_FUNCTION", "UNKNOWN_TABLE", "UNKNOWN_IDENTIFIER")
T = TypeVar("T")


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Select]:
    """Within this context the yielded function reads; blocking. Both raise ``UnavailableError``."""
    with opened_reader(settings, int(_ANSWER_S)) as reader:
        yield reader.select


@contextlib.contextmanager
def opened_reader(settings: Settings, answer_s: int = _READER_ANSWER_S) -> Iterator[Reader]:
    """Within this context the yielded reader reads; blocking. Both raise ``UnavailableError``."""
    address = settings.data_dir / _ADDRESS_FILE
    if settings.clickhouse_url is None and address.exists():
        through = _ThroughSink(json.loads(address.read_text())["url"], answer_s)
        if through.answers():
            yield through
            return
    if settings.clickhouse_url is None and not (settings.data_dir / "clickhouse").is_dir():
        raise UnavailableError(
            f"ESTOP_DATA_DIR={settings.data_dir} holds no embedded ClickHouse; name the sink's directory,"
            " or set ESTOP_CLICKHOUSE_URL to the server"
        )
    try:
        database = ClickHouse(settings.clickhouse_url, settings.data_dir, answer_s)
    except ClickHouseUnavailableError as error:
        raise UnavailableError(str(error)) from error
    try:
        yield _Direct(database)
    finally:
        database.close()


@dataclass(frozen=True, slots=True)
class _Direct:
    database: ClickHouse

    def select(self, sql: str) -> dict[str, Any]:
        return self._tried(self.database.select, sql)

    def native(self, sql: str) -> bytes:
        return self._tried(self.database.native, sql)

    def _tried(self, work: Callable[[str], T], sql: str) -> T:
        try:
            return work(sql)
        except Exception as error:  # the driver raises many types; all mean the same here
            raise _unavailable(self.database.where, str(error)) from error


@dataclass(frozen=True, slots=True)
class _ThroughSink:
    url: str
    answer_s: float

    def answers(self) -> bool:
        """Whether the sink that left its address is still there; one that was killed leaves it behind."""
        try:
            self.select("SELECT 1")
        except UnavailableError:
            return False
        return True

    def select(self, sql: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._asked(self.url, sql))
        except ValueError as error:
            raise UnavailableError(f"the sink at {self.url} does not answer: {error}") from error
        return answer

    def native(self, sql: str) -> bytes:
        return self._asked(f"{self.url}?format=native", sql)

    def _asked(self, url: str, sql: str) -> bytes:
        request = urllib.request.Request(url, sql.encode())  # noqa: S310  (the sink's own loopback address)
        try:
            with urllib.request.urlopen(request, timeout=self.answer_s) as response:  # noqa: S310  (as above)
                found: bytes = response.read()
                return found
        except urllib.error.HTTPError as error:
            raise _unavailable(self.url, error.read().decode()) from error
        except OSError as error:
            raise UnavailableError(f"the sink at {self.url} does not answer: {error}") from error


def _unavailable(where: str, said: str) -> UnavailableError:
    if any(name in said for name in _NOT_MIGRATED):
        return UnavailableError(f"ClickHouse at {where} lacks the views of this version; run 'estop migrate': {said}")
    return UnavailableError(f"ClickHouse at {where} did not answer: {said}")
