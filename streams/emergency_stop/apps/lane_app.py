"""What a lane worker is, and the Faust app that it runs on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import faust

from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.lane_transport import LaneTransport
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.config.kafka import Brokers, brokers_of
from emergency_stop.ports import PartitionCore

#: A member learns with its next heartbeat that another one was lost, so rare ones would lengthen every takeover.
_HEARTBEAT_MS_MAX: Final = 500
_REBALANCE_MS_MAX: Final = 30_000
_FETCH_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSpec:
    """What a lane worker is. ``checkpoint_interval_ms`` 0: a checkpoint after every batch and tick.

    ``prepare`` runs, once, before the first batch is applied (for example: read the triggers). ``read_up`` runs
    whenever a partition is taken over, once no predecessor can do anything in its name any more: it returns when what
    was written elsewhere by then has been read. Nobody waits for records of ``behind``.
    """

    app_id: str
    brokers: str | Brokers
    input_topics: tuple[str, ...]
    source: StateSource
    core_factory: Callable[[int], PartitionCore]
    instance_id: str
    #: Whether a successor comes back under ``instance_id``: then the group keeps its partitions for it.
    static_member: bool = True
    session_timeout_ms: int = 6_000
    checkpoint_interval_ms: int = 5_000
    #: A partition that stands still this long before its end makes the worker unready, and later restart.
    blind_after_ms: int = 30_000
    stall_timeout_ms: int = 60_000
    prepare: Callable[[], Awaitable[None]] | None = None
    read_up: Callable[[], Awaitable[None]] | None = None
    behind: frozenset[str] = frozenset()
    #: Copies of what other workers own; ``None``: a takeover reads the whole log.
    standby: StandbyReader | None = None


class LaneSchema(faust.Schema[Any, Any]):
    """Hands keys and values through as the seam made them."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class LaneApp(faust.App):
    """A Faust app on the lane's transport."""

    lane_brokers: Brokers
    lane_topics: frozenset[str] = frozenset()
    lane_flush: Callable[[], Awaitable[None]] | None = None

    def _new_transport(self) -> LaneTransport:
        return LaneTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""

    async def flush_lane(self) -> None:
        """Called by the transport before partitions leave."""
        if self.lane_flush is not None:
            await self.lane_flush()


def make_app(spec: LaneSpec) -> LaneApp:
    """The app, without topics or agents."""
    session_s = spec.session_timeout_ms / 1000
    brokers = brokers_of(spec.brokers)
    app = LaneApp(
        spec.app_id,
        broker=f"kafka://{brokers.addresses.replace(',', ';kafka://')}",
        broker_credentials=credentials_of(brokers),
        broker_client_id=f"{spec.app_id}-{spec.instance_id}",
        consumer_group_instance_id=spec.instance_id if spec.static_member else None,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=min(session_s / 4, _HEARTBEAT_MS_MAX / 1000),
        broker_rebalance_timeout=max(session_s, _REBALANCE_MS_MAX / 1000),
        broker_max_poll_interval=600.0,
        broker_commit_interval=1.0,
        consumer_max_fetch_size=_FETCH_BYTES_MAX,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        stream_buffer_maxsize=4,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        store="memory://",
        cache="memory://",
        producer_acks=-1,
    )
    app.lane_brokers = brokers
    return app


def credentials_of(brokers: Brokers) -> Any:
    """The sign-in as Faust takes it, for its own producer; ``None`` where brokers ask for nothing."""
    given = client_arguments(brokers)
    if "sasl_mechanism" in given:
        return faust.SASLCredentials(
            username=given["sasl_plain_username"],
            password=given["sasl_plain_password"],
            ssl_context=given.get("ssl_context"),
            mechanism=given["sasl_mechanism"],
        )
    return faust.SSLCredentials(given["ssl_context"]) if "ssl_context" in given else None
