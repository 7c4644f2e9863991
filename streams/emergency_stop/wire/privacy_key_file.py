"""The file of master keys as a process that lives long follows it: keys change without a restart."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from emergency_stop.domain.messages import AccountKey
from emergency_stop.wire.privacy_keys import PrivacyKeys, UnwrapError
from emergency_stop.wire.signing import KeyFileError
from emergency_stop.wire.trusted_keys import CHECK_MS, file_state

log = logging.getLogger(__name__)


class PrivacyKeyFile:
    """The keys of the file at ``path``, as they are now: looked at once a second at most, and only when asked.

    A file that is missing or damaged while the process runs changes nothing: the former keys stay, and the log says so.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ``KeyFileError``."""
        self.path: Final = path
        self._state = file_state(path)
        self._keys = PrivacyKeys.load(path)
        self._looked_at = time.monotonic()

    @property
    def keys(self) -> PrivacyKeys:
        if time.monotonic() - self._looked_at > CHECK_MS / 1000:
            self._look()
        return self._keys

    def unwrap(self, key: AccountKey) -> bytes:
        """The 32 bytes of an account's key. Raises ``UnwrapError``."""
        return self.keys.unwrap(key)

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        state = file_state(self.path)
        if state == self._state:
            return
        self._state = state
        try:
            self._keys = PrivacyKeys.load(self.path)
        except KeyFileError as error:
            log.error("%s; the former privacy keys stay in force", error)  # noqa: TRY400  (the text says all)
        else:
            log.info("privacy keys: %s wraps from now on", self._keys.newest.master_id)


__all__ = ["PrivacyKeyFile", "UnwrapError"]
