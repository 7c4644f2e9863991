"""What becomes of the service's own handlers' words: for stops, maintenance, probes and drills."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from emergency_stop.domain.texts import TEXT_LENGTH_MAX, fit
from emergency_stop.domain.values import Action
from emergency_stop.sdk import current_stop
from emergency_stop.sdk.handlers import Handlers, Outcome
from tests.unit.sdk.scenario import GRACEFUL, MAINTENANCE, SERVICE, command

DRILL, PREPARE, PROBE = (
    command(Action.DRILL), command(Action.PROBE), command(Action.PROBE, share_percent=10)
)  # fmt: skip


def raising(_: str) -> bool:
    raise OSError("disk full")


async def later(_: str) -> bool:
    return True


def says(answer: Any) -> Callable[[str], Any]:
    return lambda _: answer


@pytest.mark.parametrize("handler", [None, says(True), later])
@pytest.mark.parametrize("ordered", [command(), DRILL, PREPARE], ids=lambda ordered: ordered.action.value)
async def test_a_handler_that_is_content_or_left_out_has_nothing_to_object(handler: Any, ordered: Any) -> None:
    assert await Handlers(on_stop=handler, on_prepare=handler, on_drill=handler).run(SERVICE, ordered) == Outcome(True)


@pytest.mark.parametrize(
    ("handler", "why"),
    [(says(False), "returned false"), (says(None), "returned false"), (raising, "raised OSError: disk full")],
)
@pytest.mark.parametrize(("ordered", "name"), [(command(), "stop"), (DRILL, "drill"), (PREPARE, "prepare")])
async def test_a_handler_that_is_not_content_says_why(handler: Any, why: str, ordered: Any, name: str) -> None:
    outcome = await Handlers(on_stop=handler, on_prepare=handler, on_drill=handler).run(SERVICE, ordered)
    assert outcome == Outcome(False, f"the service's {name} handler {why}")


async def cancels_its_own_worker(_: str) -> bool:
    """As services end what works for them; ``await`` then raises what is none of the guard's business."""
    worker = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    worker.cancel()
    return await worker


def gives_up(_: str) -> bool:
    raise asyncio.CancelledError


@pytest.mark.parametrize("handler", [cancels_its_own_worker, gives_up])
@pytest.mark.parametrize(("ordered", "name"), [(command(), "stop"), (DRILL, "drill"), (PREPARE, "prepare")])
async def test_a_handlers_own_cancellation_is_a_failure_like_any_other(handler: Any, ordered: Any, name: str) -> None:
    outcome = await Handlers(on_stop=handler, on_prepare=handler, on_drill=handler).run(SERVICE, ordered)
    assert outcome == Outcome(False, f"the service's {name} handler raised CancelledError")


@pytest.mark.parametrize(("save", "verify"), [(cancels_its_own_worker, says(True)), (says("s3://7"), gives_up)])
async def test_so_it_is_while_state_is_saved_and_verified(save: Any, verify: Any) -> None:
    handlers = Handlers(says(True), save, verify)
    outcome = await handlers.run(SERVICE, command(level=MAINTENANCE))
    assert outcome == Outcome(False, "saving the service's state raised CancelledError")


async def test_a_cancellation_from_outside_ends_the_handler_and_the_task() -> None:
    entered = asyncio.Event()

    async def waits(_: str) -> bool:
        entered.set()
        return await asyncio.Event().wait()

    running = asyncio.create_task(Handlers(on_stop=waits).run(SERVICE, command()))
    await entered.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("no broker")])
async def test_a_probe_is_refused_where_the_services_health_cannot_be_asked(error: BaseException) -> None:
    async def ask() -> str:
        raise error

    outcome = await Handlers(ask_health=ask).run(SERVICE, PROBE)
    assert not outcome.done
    assert "asking for its health raised " + type(error).__name__ in outcome.reason


async def test_what_a_handler_says_can_be_sent_and_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # a report of this test must be sent as well

    def raises(_: str) -> bool:
        raise OSError("\udcff" + "x" * 5_000)

    outcome = await Handlers(on_stop=raises).run(SERVICE, command())
    assert outcome.reason.startswith("the service's stop handler raised OSError: \\udcffxxx")
    assert len(outcome.reason.encode()) <= TEXT_LENGTH_MAX + 10
    assert (await Handlers(says(True), says("x" * 5_000)).run(SERVICE, command())).saved_state == fit("x" * 5_000)


async def test_a_reference_that_cannot_be_kept_whole_fails_a_maintenance_stop() -> None:
    handlers = Handlers(says(True), says("x" * 1_001), says(True))
    outcome = await handlers.run(SERVICE, command(level=MAINTENANCE))
    assert not outcome.done
    assert "reference of 1001 characters" in outcome.reason
    assert "at most 1000" in outcome.reason


async def test_each_action_calls_its_own_handler_with_the_correlation_id_and_the_command() -> None:
    called: list[str] = []

    def note(name: str) -> Callable[[str], bool]:
        def handler(correlation_id: str) -> bool:
            under_way = current_stop()
            called.append(f"{name} {correlation_id} {under_way.action.value if under_way else '-'}")
            return True

        return handler

    handlers = Handlers(on_stop=note("stop"), on_prepare=note("prepare"), on_drill=note("drill"))
    for ordered in (command(), DRILL, PREPARE, PROBE):
        await handlers.run(SERVICE, ordered)
    assert called == ["stop corr stop", "drill corr drill", "prepare corr probe"]


@pytest.mark.parametrize(
    ("problem", "outcome"), [("", Outcome(True)), ("hot", Outcome(False, "the service is not well: hot"))]
)
async def test_a_probe_with_a_share_asks_the_services_health(problem: str, outcome: Outcome) -> None:
    async def ask() -> str:
        return problem

    assert await Handlers(ask_health=ask).run(SERVICE, PROBE) == outcome


@pytest.mark.parametrize(
    ("save", "verify", "why"),
    [
        (says("s3://7"), says(True), ""),
        (None, None, "a maintenance stop needs saved state; give StopGuard save_state and verify_state"),
        (says("s3://7"), None, "nobody verified the saved state s3://7; give StopGuard verify_state"),
        (says("s3://7"), says(False), "verify_state says that the saved state s3://7 is not good"),
        (says(""), says(True), "save_state returned ''; a maintenance stop needs a reference to verify"),
        (says(None), says(True), "save_state returned None; a maintenance stop needs a reference to verify"),
        (raising, says(True), "saving the service's state raised OSError: disk full"),
        (says("s3://7"), raising, "saving the service's state raised OSError: disk full"),
    ],
)
async def test_a_maintenance_stop_is_done_only_with_saved_state_that_was_verified(
    save: Any, verify: Any, why: str
) -> None:
    handlers = Handlers(on_stop=says(True), save_state=save, verify_state=verify)
    outcome = await handlers.run(SERVICE, command(level=MAINTENANCE))
    assert outcome == (Outcome(False, why) if why else Outcome(True, saved_state="s3://7"))


async def test_what_is_verified_is_what_was_saved_and_only_after_the_stop_handler() -> None:
    called: list[str] = []

    def stop(_: str) -> bool:
        called.append("stop")
        return True

    async def save(correlation_id: str) -> str:
        called.append(f"save {correlation_id}")
        return "reference"

    async def verify(reference: str) -> bool:
        called.append(f"verify {reference}")
        return True

    assert (await Handlers(stop, save, verify).run(SERVICE, command(level=MAINTENANCE))).done
    assert called == ["stop", "save corr", "verify reference"]


async def test_state_is_not_saved_after_a_stop_handler_that_failed() -> None:
    handlers = Handlers(says(False), raising, says(True))  # type: ignore[arg-type]  # it must not be called at all
    outcome = await handlers.run(SERVICE, command(level=MAINTENANCE))
    assert outcome.reason == "the service's stop handler returned false"


async def test_other_levels_save_what_can_be_saved_and_ask_for_no_verification() -> None:
    handlers = Handlers(says(True), says("s3://7"), says(False))
    assert await handlers.run(SERVICE, command(level=GRACEFUL)) == Outcome(True, saved_state="s3://7")
    assert await Handlers(says(True)).run(SERVICE, command(level=GRACEFUL)) == Outcome(True)
