"""``estop notices``: what the coordinator wanted people to hear, whether or not it was hidden. Read from Kafka."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import Notice
from emergency_stop.domain.topics import NOTICES
from emergency_stop.domain.values import NoticeKind
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError


def run_notices(options: argparse.Namespace, settings: Settings) -> int:
    """The newest ones, each once, from the oldest of them; with ``--follow`` those that come, too."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_notices(options, Installation(settings)))
    return EXIT_OK


class _Reader:
    """Keeps the newest notices until ``begin``, and prints those that come after it."""

    def __init__(self, options: argparse.Namespace, installation: Installation) -> None:
        self._options = options
        self._installation = installation
        self._kind = NoticeKind(options.kind) if options.kind else None
        #: The newest by id: a notice that was written twice counts once.
        self._recent: deque[Notice] = deque(maxlen=options.limit)
        self._ids: deque[str] = deque(maxlen=max(1_000, options.limit))
        self._printing = False

    def take(self, record: TailRecord) -> None:
        try:
            notice = self._installation.codec.decode(Notice, record.value)
        except (WireError, UnknownSchemaError):
            self._installation.unreadable += 1
            return
        if notice.notice_id in self._ids or self._kind not in (None, notice.kind):
            return
        self._ids.append(notice.notice_id)
        if self._printing:
            self._print(notice)
        else:
            self._recent.append(notice)

    def begin(self) -> None:
        """Print what was kept. From now on what comes is printed at once."""
        self._printing = True
        if self._options.follow:
            for notice in self._recent:
                self._print(notice)
        elif self._options.json:
            show_json([plain(notice) for notice in self._recent])
        elif self._recent:
            rows = [(moment(one.at), one.kind.value, one.scope, one.subject) for one in self._recent]
            show_table(("AT", "KIND", "SCOPE", "SUBJECT"), rows)
        else:
            print("There are no notices.")

    def _print(self, notice: Notice) -> None:
        if self._options.json:
            print(json.dumps(plain(notice), ensure_ascii=False), flush=True)
        else:
            print(f"{moment(notice.at)}  {notice.kind.value:<7}  {notice.scope}  {notice.subject}", flush=True)


async def _notices(options: argparse.Namespace, installation: Installation) -> None:
    reader = _Reader(options, installation)
    async with installation.reading(NOTICES, reader.take):
        reader.begin()
        if installation.unreadable:
            say(f"warning: {installation.unreadable} records could not be read and are not shown")
        if options.follow:
            await asyncio.Event().wait()
