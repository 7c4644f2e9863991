"""Where the sink's key for heads of the audit comes from, and where its public half is found."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from emergency_stop.config import Settings
from emergency_stop.wire.signing import Signer
from emergency_stop.wire.trusted_keys import trust_keys

log = logging.getLogger(__name__)

#: In the data folder, where no files are configured.
KEY_NAME: Final = "audit-key.pem"
KEYS_NAME: Final = "audit-keys.pem"


def audit_keys_file(settings: Settings) -> Path:
    """The public keys whose heads are trusted."""
    return settings.audit_keys_file or settings.data_dir / KEYS_NAME


def load_audit_signer(settings: Settings) -> Signer:
    """The configured key; or this installation's own, made at its first start.

    The public half of an own key is added to the trusted ones. Raises ``KeyFileError`` for a file that cannot be used:
    heads by a key that nobody keeps would prove nothing later.
    """
    if settings.audit_key_file is not None:
        return Signer.load(settings.audit_key_file)
    private = settings.data_dir / KEY_NAME
    if not private.exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        Signer.generate().save(private)
        log.info("made %s, the key that signs heads of the audit (ESTOP_AUDIT_KEY_FILE names another)", private)
    signer = Signer.load(private)
    trust_keys(audit_keys_file(settings), signer.public_pem())
    return signer
