"""Accounts' keys for whoever produces telemetry: made on first use, read back before they seal, dropped when erased.

Theory of operation. A tail follows ``estop.account-keys`` into an ``AccountKeyBook``. ``want`` notes that an account
needs a key, and a task makes what is missing: it publishes a wrapped key, and the account's key is whatever then
comes back first from the log (see ``wire.account_keys``). Nobody waits longer than ``KEY_WAIT_MS`` from when he first
wanted it: telemetry that stops accounts must not wait for privacy. Such texts are sealed with a key that is thrown
away, so that nobody can ever read them, detectors still tell them apart, and nothing goes out in the clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.topics import ACCOUNT_KEYS
from emergency_stop.domain.values import AccountKeyState
from emergency_stop.ports import Clock
from emergency_stop.wire.account_keys import AccountKeyBook, record_name
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.privacy_key_file import PrivacyKeyFile
from emergency_stop.wire.privacy_keys import UnwrapError
from emergency_stop.wire.registry import LocalRegistry, Registry, UnknownSchemaError
from emergency_stop.wire.sealing import KEY_BYTES, SealingKey, new_key_id
from emergency_stop.wire.sensitive import seal_fields

log = logging.getLogger(__name__)

#: How long an event may wait for its account's key. A broker that answers at all does so in a fraction of it.
KEY_WAIT_MS: Final = 1_000
#: The same while the topic has not been read to its end for the first time.
FIRST_WAIT_MS: Final = 5_000
#: Keys that are unwrapped in memory; each is about two kilobytes.
UNWRAPPED_MAX: Final = 10_000
RETRY_MS: Final = 500


class AccountKeyring:
    """Seals the records of any account. All methods belong to one event loop, but for ``want`` before ``start``."""

    def __init__(
        self,
        brokers: str | Brokers,
        key_file: Path,
        *,
        client_id: str,
        registry: Registry | None = None,
        clock: Clock | None = None,
        unwrapped_max: int = UNWRAPPED_MAX,
    ) -> None:
        """Raises ``KeyFileError``."""
        self._file = PrivacyKeyFile(key_file)
        self._registry = registry or LocalRegistry()
        self._codec = Codec(self._registry)
        self._now_ms = (clock or SystemClock()).now_ms
        self._book = AccountKeyBook()
        self._tail = CompactedTail(brokers, ACCOUNT_KEYS, self._take, client_id=f"{client_id}-keys")
        self._publisher = KafkaPublisher(brokers, client_id=f"{client_id}-keys")
        #: By account id, least recently used first; each with its pseudonym.
        self._unwrapped: OrderedDict[str, tuple[str, SealingKey]] = OrderedDict()
        self._unwrapped_max = unwrapped_max
        #: Who waits for a key, and since when (seconds, monotonic); in order.
        self._wanted: dict[str, float] = {}
        self._orphans: OrderedDict[str, SealingKey] = OrderedDict()
        #: Set, and replaced, when something was wanted or read: take it before looking, then wait for it.
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Seconds, monotonic; when the topic was first known to its end, ``None`` until then.
        self._started_at = 0.0
        self._known_at: float | None = None
        #: Master keys that are missing here and were complained about.
        self._unknown_masters: set[str] = set()
        #: The last wait was in vain, and nothing has been heard of the topic since: the next one would be too.
        self._is_cut_off = False
        #: Records that were sealed with a key that was thrown away.
        self.unreadable = 0

    async def start(self) -> None:
        """Begin to follow the keys, in the background: returns at once, whether or not a broker answers. Idempotent."""
        if self._task is None:
            self._started_at = time.monotonic()
            await self._tail.start()
            self._task = asyncio.create_task(self._make_wanted(), name="account keys")

    async def stop(self) -> None:
        """Deliver what is on its way, then disconnect. Raises ``KafkaError`` where the broker does not take it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._tail.stop()
        await self._publisher.stop()

    def want(self, account_id: str) -> None:
        """Note that a record of this account will be sealed, so that its key is there by then. Never waits."""
        if account_id not in self._wanted and self._key_of(account_id) is None:
            self._wanted[account_id] = time.monotonic()
            self._tell()

    async def seal(self, record: str, plain: dict[str, Any]) -> dict[str, Any]:
        """``plain`` with its sensitive texts sealed; see above for what happens where there is no key in time."""
        account_id = str(plain["account_id"])
        key = self._key_of(account_id)
        if key is None:
            self.want(account_id)
            key = await self._wait_for(account_id)
        return seal_fields(record, plain, key or self._orphan(account_id))

    # ---------------------------------------------------------------------------------------------- finding keys

    def _key_of(self, account_id: str) -> SealingKey | None:
        """The key that seals now, of those that were read back."""
        found = self._unwrapped.get(account_id)
        pseudonym = found[0] if found else self._file.keys.pseudonym(account_id)
        current = self._book.current(pseudonym)
        if current is None:
            self._unwrapped.pop(account_id, None)
            return None
        if found and found[1].key_id == current.key_id:
            self._unwrapped.move_to_end(account_id)
            return found[1]
        return self._unwrap(account_id, current)

    def _unwrap(self, account_id: str, current: AccountKey) -> SealingKey | None:
        try:
            key = SealingKey(current.key_id, self._file.unwrap(current))
        except UnwrapError as error:
            if current.master_id not in self._unknown_masters:
                self._unknown_masters.add(current.master_id)
                log.error("the key of an account cannot be used: %s", error)  # noqa: TRY400  (the text says all)
            return None
        self._unwrapped[account_id] = (current.pseudonym, key)
        self._unwrapped.move_to_end(account_id)
        if len(self._unwrapped) > self._unwrapped_max:
            self._unwrapped.popitem(last=False)
        return key

    async def _wait_for(self, account_id: str) -> SealingKey | None:
        """The account's key once it was read back; ``None`` where it cannot be used, or did not come in time."""
        wanted_at = self._wanted.get(account_id, time.monotonic())
        while not self._is_cut_off:
            news = self._news
            if not self._lacks(account_id):
                return self._key_of(account_id)
            left_s = self._deadline(wanted_at) - time.monotonic()
            self._is_cut_off = left_s <= 0
            await _waited(news, left_s)
        return None

    def _deadline(self, wanted_at: float) -> float:
        """Seconds, monotonic. What is wanted before the topic is known has its time from then on."""
        if self._known_at is None:
            return self._started_at + FIRST_WAIT_MS / 1000
        return max(wanted_at, self._known_at) + KEY_WAIT_MS / 1000

    def _orphan(self, account_id: str) -> SealingKey:
        """A key of this process's own, which nobody ever sees: the same for the account while it is remembered."""
        if self.unreadable & (self.unreadable - 1) == 0:  # at 0, 1, 2, 4, 8 …
            log.error(
                "no key of an account came from %s within %d ms; what is sealed meanwhile can never be opened, %d"
                " records so far; 'estop privacy status' says what is missing",
                ACCOUNT_KEYS, KEY_WAIT_MS, self.unreadable + 1,
            )  # fmt: skip
        self.unreadable += 1
        key = self._orphans.get(account_id) or SealingKey(new_key_id(), secrets.token_bytes(KEY_BYTES))
        self._orphans[account_id] = key
        self._orphans.move_to_end(account_id)
        if len(self._orphans) > self._unwrapped_max:
            self._orphans.popitem(last=False)
        return key

    # ----------------------------------------------------------------------------------------------- making keys

    def _take(self, record: TailRecord) -> None:
        try:
            key = None if record.value is None else self._codec.decode(AccountKey, record.value)
        except (WireError, UnknownSchemaError) as error:
            log.warning("%s: offset %d is no account key: %s", ACCOUNT_KEYS, record.offset, error)
            return
        pseudonym = self._book.take(record.key, key)
        if key is not None and key.state is AccountKeyState.ERASED:
            for account_id in [name for name, (whose, _) in self._unwrapped.items() if whose == pseudonym]:
                del self._unwrapped[account_id]
        self._is_cut_off = False
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _make_wanted(self) -> None:
        """One key for each account that has none, as soon as the log is known to its end."""
        await self._connect()
        await self._tail.caught_up()
        self._known_at = time.monotonic()
        self._is_cut_off = False
        while True:
            news = self._news
            try:
                await self._make([name for name in self._wanted if self._lacks(name)])
            except (KafkaError, OSError) as error:
                log.warning("keys of accounts were not written: %r; trying again", error)
                await asyncio.sleep(RETRY_MS / 1000)
            for name in [name for name in self._wanted if not self._lacks(name)]:
                del self._wanted[name]
            await _waited(news, RETRY_MS / 1000)

    async def _make(self, account_ids: list[str]) -> None:
        """Publish a key for each, wait until they are read back, and take those out again that came second."""
        made = [self._new_key(account_id) for account_id in account_ids]
        await asyncio.gather(*(self._publish(key, self._codec.encode(key, ACCOUNT_KEYS)) for key in made))
        deadline = time.monotonic() + KEY_WAIT_MS / 1000
        while time.monotonic() < deadline:
            news = self._news
            if all(self._is_back(key) for key in made):
                break
            await _waited(news, RETRY_MS / 1000)
        lost = [key for key in made if key in self._book.losers(key.pseudonym)]
        await asyncio.gather(*(self._publish(key, None) for key in lost))

    def _lacks(self, account_id: str) -> bool:
        """Whether the log has no key of it; one that cannot be unwrapped here is no reason for another."""
        return self._book.current(self._file.keys.pseudonym(account_id)) is None

    def _new_key(self, account_id: str) -> AccountKey:
        keys = self._file.keys
        pseudonym = keys.pseudonym(account_id)
        version = self._book.next_version(pseudonym)
        return keys.wrap(secrets.token_bytes(KEY_BYTES), pseudonym, new_key_id(), version, self._now_ms())

    def _is_back(self, key: AccountKey) -> bool:
        """Whether the log was read to behind ``key``: it is live, or void because somebody erased meanwhile."""
        return key in self._book.keys(key.pseudonym) or key in self._book.void(key.pseudonym)

    async def _publish(self, key: AccountKey, value: bytes | None) -> None:
        await self._publisher.publish(ACCOUNT_KEYS, record_name(key), value)

    async def _connect(self) -> None:
        """A registry may block, and may be away; so may the broker."""
        while True:
            try:
                await asyncio.to_thread(self._registry.schema_id, AccountKey.__name__, ACCOUNT_KEYS)
                await self._publisher.start()
            except (KafkaError, OSError, RuntimeError, LookupError) as error:
                log.warning("account keys wait for the broker and the registry: %r", error)
                await asyncio.sleep(RETRY_MS / 1000)
            else:
                return


async def _waited(news: asyncio.Event, within_s: float) -> None:
    """Until ``news`` or for so long. ``wait_for`` of Python 3.11 loses a cancellation that comes with the event."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await news.wait()
