"""One instance of a reference service that also tells when its gate is shut for every account of a crowd.

``python -m tests.bench.stop.instance SERVICE ACCOUNTS ACTIONS_PER_S FOLDER [CROWD=COUNT ...]``, with settings from the
environment. Told is what the service itself meets: once the gate is shut for the last account, a permit is asked for
each of them, and ``FOLDER/<crowd>.<instance>.json`` says when that was and how many were refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emergency_stop.bootstrap import prepare
from emergency_stop.config import Settings
from emergency_stop.integrations.reference import ReferenceService
from emergency_stop.integrations.run import SERVICES, run_service
from emergency_stop.sdk import StopGuard, Stopped

_POLL_S: Final = 0.005


def crowd_names(crowd: str, count: int) -> list[str]:
    return [f"{crowd}-{number:06d}" for number in range(count)]


def report_path(folder: Path, crowd: str, instance_id: str) -> Path:
    return folder / f"{crowd}.{instance_id}.json"


async def watch(guard: StopGuard, accounts: Sequence[str], path: Path) -> None:
    """Wait until the gate is shut for all ``accounts``, then write the report.

    Accounts are looked at in order, each until it is shut: the moment of the last one is exact to one poll, and a poll
    costs nothing while the gate is open.
    """
    next_open = 0
    while next_open < len(accounts):
        if guard.stopped_by(accounts[next_open]) is not None:
            next_open += 1
        else:
            await asyncio.sleep(_POLL_S)
    shut_at = guard.now_ms()
    report = {"shut_at": shut_at, "accounts": len(accounts), "refused": sum(refuses(guard, one) for one in accounts)}
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(report))
    fresh.rename(path)


def refuses(guard: StopGuard, account: str) -> bool:
    """Whether a permit really is refused."""
    try:
        with guard.permit(account):
            return False
    except Stopped:
        return True


def watched(kind: type[ReferenceService], folder: Path, crowds: Sequence[str]) -> type[ReferenceService]:
    """The service, with a watch of each crowd (``NAME=COUNT``) beside its work."""

    class Watched(kind):  # type: ignore[valid-type, misc]  # a class made at run time
        async def run(self) -> None:
            async with asyncio.TaskGroup() as group:
                for text in crowds:
                    crowd, _, count = text.partition("=")
                    path = report_path(folder, crowd, self.guard.instance_id)
                    group.create_task(watch(self.guard, crowd_names(crowd, int(count)), path))
                group.create_task(super().run())

    return Watched


def main(service: str, accounts: str, actions_per_s: str, folder: str, *crowds: str) -> int:
    settings = Settings.from_env()
    prepare(settings)
    SERVICES[service] = watched(SERVICES[service], Path(folder), crowds)
    return run_service(settings, service, int(accounts), float(actions_per_s))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
