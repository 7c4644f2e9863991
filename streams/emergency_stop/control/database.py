"""ClickHouse as a command finds it: a server, the sink that has chDB open, or chDB itself where nobody has."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from emergency_stop.adapters.audit_ledger import Select
from emergency_stop.apps.sink.query import ADDRESS_FILE
from emergency_stop.config import Settings
from emergency_stop.control.errors import UnavailableError

_ANSWER_S: Final = 60


@contextlib.contextmanager
def selecting(settings: Settings) -> Iterator[Select]:
    """Reading statements of the server, of the sink that has chDB open, or of chDB itself where none has.

    Raises ``UnavailableError``.
    """
    address = settings.data_dir / ADDRESS_FILE
    if settings.clickhouse_url is None and address.exists():
        select = _asking(json.loads(address.read_text())["url"])
        if _answers(select):
            yield select
            return
    with changing(settings) as database:
        yield database.rows


@contextlib.contextmanager
def changing(settings: Settings) -> Iterator[Any]:
    """The database itself, to be written: a server, or chDB while no sink has it open. Raises ``UnavailableError``."""
    from emergency_stop.adapters.clickhouse import ClickHouse, ClickHouseUnavailableError

    try:
        database = ClickHouse(settings.clickhouse_url, settings.data_dir)
    except ClickHouseUnavailableError as error:
        raise UnavailableError(str(error)) from error
    try:
        yield database
    finally:
        database.close()


def _asking(url: str) -> Select:
    def select(sql: str) -> list[list[Any]]:
        request = urllib.request.Request(url, data=sql.encode())  # noqa: S310  (the sink's own, on loopback)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
                rows: list[list[Any]] = json.loads(answer.read())["data"]
                return rows
        except urllib.error.HTTPError as error:
            raise UnavailableError(f"the sink at {url} refused: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise UnavailableError(f"the sink at {url} does not answer: {error}") from error

    return select


def _answers(select: Select) -> bool:
    """Whether a sink is there; one that was killed left its address, and chDB to whoever opens it."""
    try:
        select("SELECT 1")
    except UnavailableError:
        return False
    return True
