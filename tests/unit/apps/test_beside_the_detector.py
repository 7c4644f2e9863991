"""Jobs beside a worker: nothing must look alive that is not, and none of them may end it for want of a registry."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.apps.freshness import FreshnessWriter
from emergency_stop.apps.lane_app import LaneSpec
from emergency_stop.apps.lane_worker import EXIT_CRASHED, LaneWorker
from emergency_stop.ports import Publisher
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry, RegistryError

NOBODY = "127.0.0.1:9"


def worker() -> LaneWorker:
    spec = LaneSpec(
        app_id="test", brokers=NOBODY, input_topics=("in",), source=StateSource(NOBODY, "state"),
        core_factory=lambda _: cast("Any", None), instance_id="one",
    )  # fmt: skip
    return LaneWorker(spec, cast("Publisher", None), SystemClock())


async def test_a_job_beside_the_worker_that_fails_ends_the_process() -> None:
    async def fails() -> None:
        raise RuntimeError("a defect")

    served = worker()
    served.run_beside(fails)
    assert fails in served._jobs()
    served._failed = asyncio.get_running_loop().create_future()
    await served._guarded(fails)
    assert served._failed.result() == EXIT_CRASHED


async def test_freshness_is_written_again_once_the_registry_is_back() -> None:
    tries: list[int] = []
    written = asyncio.Event()

    class Writer(FreshnessWriter):
        async def _write(self) -> None:
            tries.append(len(tries))
            if len(tries) < 3:
                raise RegistryError("away")
            written.set()

    settings = cast("Any", SimpleNamespace(freshness_interval_ms=1, kafka=NOBODY))
    codec = Codec(LocalRegistry())
    writer = Writer(settings, codec, cast("Any", None), {}, SystemClock(), client_id="test")
    running = asyncio.create_task(writer.run())
    async with asyncio.timeout(10):
        await written.wait()
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
