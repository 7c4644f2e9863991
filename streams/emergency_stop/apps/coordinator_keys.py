"""Where the coordinator's signing key comes from, how another takes over, and where services find the public half."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from emergency_stop.config import Settings
from emergency_stop.wire.signing import KeyFileError, Signed, Signer, Verifier
from emergency_stop.wire.trusted_keys import FileState, file_state, trust_keys

log = logging.getLogger(__name__)

#: In the data folder, where no file of trusted keys is configured.
VERIFY_KEYS_NAME: Final = "verify-keys.pem"
#: How soon a changed key file is noticed; SIGHUP makes it at once.
WATCH_S: Final = 1.0


def trusted_file(settings: Settings) -> Path:
    """The file of trusted keys that this installation uses."""
    return settings.verify_keys_file or settings.data_dir / VERIFY_KEYS_NAME


class SigningKey:
    """The key that signs now; a ``wire.signing.MessageSigner``. Belongs to one event loop.

    Another takes over when the configured file holds it and the file of trusted keys, where one is configured, has
    its public half: signed by a key that services do not trust, every resume would be refused. Until both are so, the
    former key signs on.
    """

    def __init__(self, signer: Signer, path: Path | None = None, trusted: Path | None = None) -> None:
        """Without ``path`` it is the same key for ever."""
        self._signer = signer
        self._path = path
        self._trusted = trusted
        self._seen = self._states()
        self.refused = ""

    @property
    def signer(self) -> Signer:
        """Who signs now."""
        return self._signer

    @property
    def key_id(self) -> str:
        return self._signer.key_id

    def sign(self, message: Signed) -> Signed:
        return self._signer.sign(message)

    def reload(self) -> bool:
        """Look at the files; whether another key took over. Never raises: ``refused`` says why none did."""
        states = self._states()
        if self._path is None or states == self._seen:
            return False
        self._seen = states
        former = self.key_id
        try:
            signer = Signer.load(self._path)
            self._check_trusted(signer)
        except KeyFileError as error:
            self.refused = str(error)
            text = "the signing key stays %s: %s"
            log.error(text, former, error)  # noqa: TRY400  # the text says all
            return False
        self.refused = ""
        self._signer = signer
        if signer.key_id != former:
            log.warning("signing with key %s from now on, formerly %s", signer.key_id, former)
        return signer.key_id != former

    def _check_trusted(self, signer: Signer) -> None:
        if self._trusted is None or signer.key_id in Verifier.load(self._trusted).key_ids:
            return
        raise KeyFileError(
            f"{self._path} holds key {signer.key_id}, which {self._trusted} does not trust: services would refuse"
            f" every resume. First run `estop keys trust {self._path}` wherever services verify"
        )

    def _states(self) -> tuple[FileState, FileState]:
        return file_state(self._path), file_state(self._trusted)


def with_own_key(settings: Settings, folder: Path) -> Settings:
    """The settings with a signing key of an installation's own in ``folder``, made at its first start, and trusted."""
    private, public = folder / "signing-key.pem", folder / VERIFY_KEYS_NAME
    if not private.exists():
        signer = Signer.generate()
        signer.save(private)
        trust_keys(public, signer.public_pem())
    return replace(settings, signing_key_file=private, verify_keys_file=public)


@contextlib.asynccontextmanager
async def following(key: SigningKey) -> AsyncIterator[None]:
    """Within this context a changed file changes the key: within ``WATCH_S`` seconds, or at once on SIGHUP."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            key.reload()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, key.reload)
    watching = asyncio.create_task(watch(), name="signing key")
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        watching.cancel()
        await asyncio.wait({watching})


def load_signing_key(settings: Settings) -> SigningKey:
    """The configured key, or a fresh one that lives as long as this process.

    A fresh key's public half is added to the file of trusted keys, so that services on this machine can
    check it. A configured key that the file lacks is only warned about: whom services trust is theirs to
    decide. Raises ``KeyFileError`` for a key file that cannot be used.
    """
    trusted = trusted_file(settings)
    if settings.signing_key_file is None:
        signer = Signer.generate()
        log.warning(
            "ESTOP_SIGNING_KEY_FILE is not set: signing with a fresh key %s that is gone when this process ends;"
            " for production make one with `estop keys generate FILE`",
            signer.key_id,
        )
        _publish(signer, trusted)
        return SigningKey(signer)
    key = SigningKey(Signer.load(settings.signing_key_file), settings.signing_key_file, settings.verify_keys_file)
    log.info("signing with key %s from %s", key.key_id, settings.signing_key_file)
    if settings.verify_keys_file is not None:
        _compare(key.signer, settings.verify_keys_file)
    return key


def _publish(signer: Signer, path: Path) -> None:
    try:
        trust_keys(path, signer.public_pem())
    except KeyFileError as error:
        log.warning("%s; services cannot verify key %s", error, signer.key_id)
    else:
        log.info("public key %s is in %s (ESTOP_VERIFY_KEYS_FILE for services)", signer.key_id, path)


def _compare(signer: Signer, path: Path) -> None:
    if not path.exists():
        _publish(signer, path)
    elif signer.key_id not in Verifier.load(path).key_ids:
        log.warning("%s lacks key %s: its services will refuse every resume", path, signer.key_id)
