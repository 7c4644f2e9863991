"""Where the coordinator's signing key comes from, and where services find its public half."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from emergency_stop.config import Settings
from emergency_stop.wire.signing import Signer, Verifier, publish_public_key

log = logging.getLogger(__name__)

#: In the data folder, where no file of trusted keys is configured.
VERIFY_KEYS_NAME: Final = "verify-keys.pem"


def load_signer(settings: Settings) -> Signer:
    """The configured key, or a fresh one that lives as long as this process.

    A fresh key's public half is added to the file of trusted keys, so that services on this machine can
    check it. A configured key that the file lacks is only warned about: whom services trust is theirs to
    decide. Raises ``KeyFileError`` for a key file that cannot be used.
    """
    trusted = settings.verify_keys_file or settings.data_dir / VERIFY_KEYS_NAME
    if settings.signing_key_file is None:
        signer = Signer.generate()
        log.warning(
            "ESTOP_SIGNING_KEY_FILE is not set: signing with a fresh key %s that is gone when this process ends;"
            " for production make one with `openssl genpkey -algorithm ed25519 -out FILE`",
            signer.key_id,
        )
        _publish(signer, trusted)
        return signer
    signer = Signer.load(settings.signing_key_file)
    log.info("signing with key %s from %s", signer.key_id, settings.signing_key_file)
    if settings.verify_keys_file is not None:
        _compare(signer, settings.verify_keys_file)
    return signer


def _publish(signer: Signer, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_public_key(signer, path)
    except OSError as error:
        log.warning("the public key could not be written to %s (%s); services cannot verify it", path, error.strerror)
    else:
        log.info("public key %s is in %s (ESTOP_VERIFY_KEYS_FILE for services)", signer.key_id, path)


def _compare(signer: Signer, path: Path) -> None:
    if not path.exists():
        _publish(signer, path)
    elif signer.key_id not in Verifier.load(path).key_ids:
        log.warning("%s lacks key %s: its services will refuse every resume", path, signer.key_id)
