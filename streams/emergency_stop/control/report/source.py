"""Where a report reads: a ClickHouse server, the sink that has chDB open, or chDB itself while no sink runs."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from emergency_stop.adapters.clickhouse import ClickHouse, ClickHouseUnavailableError
from emergency_stop.config import Settings
from emergency_stop.control.errors import UnavailableError
from emergency_stop.control.report.sections import Select

_ADDRESS_FILE: Final = "sink-query.json"
_ANSWER_S: Final = 60.0
_NOT_MIGRATED: Final = ("UNKNOWN_FUNCTION", "UNKNOWN_TABLE", "UNKNOWN_IDENTIFIER")


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Select]:
    """Within this context the yielded function reads; blocking. Both raise ``UnavailableError``."""
    address = settings.data_dir / _ADDRESS_FILE
    if settings.clickhouse_url is None and address.exists():
        url = json.loads(address.read_text())["url"]
        if _answers(url):
            yield lambda sql: _through_sink(url, sql)
            return
    if settings.clickhouse_url is None and not (settings.data_dir / "clickhouse").is_dir():
        raise UnavailableError(
            f"ESTOP_DATA_DIR={settings.data_dir} holds no embedded ClickHouse; name the sink's directory,"
            " or set ESTOP_CLICKHOUSE_URL to the server"
        )
    try:
        database = ClickHouse(settings.clickhouse_url, settings.data_dir)
    except ClickHouseUnavailableError as error:
        raise UnavailableError(str(error)) from error
    try:
        yield lambda sql: _directly(database, sql)
    finally:
        database.close()


def _directly(database: ClickHouse, sql: str) -> dict[str, Any]:
    try:
        return database.select(sql)
    except Exception as error:  # the driver raises many types; all mean the same here
        raise _unavailable(database.where, str(error)) from error


def _answers(url: str) -> bool:
    """Whether the sink that left its address is still there; one that was killed leaves it behind."""
    try:
        _through_sink(url, "SELECT 1")
    except UnavailableError:
        return False
    return True


def _through_sink(url: str, sql: str) -> dict[str, Any]:
    request = urllib.request.Request(url, sql.encode())  # noqa: S310  (the sink's own loopback address)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:  # noqa: S310  (as above)
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise _unavailable(url, error.read().decode()) from error
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the sink at {url} does not answer: {error}") from error


def _unavailable(where: str, said: str) -> UnavailableError:
    if any(name in said for name in _NOT_MIGRATED):
        return UnavailableError(f"ClickHouse at {where} lacks the views of this version; run 'estop migrate': {said}")
    return UnavailableError(f"ClickHouse at {where} did not answer: {said}")
