"""``estop keys``: the keys that commands and holds are signed with, and how one takes the place of another.

Nothing here is sent anywhere: the commands read and write key files of this machine. Only ``retire`` asks the broker,
who signed last.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from emergency_stop.apps.coordinator_keys import trusted_file
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.control.cli.output import moment, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_REFUSED, UnavailableError
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import Hold
from emergency_stop.domain.topics import HOLDS
from emergency_stop.wire.signing import KeyFileError, Signer, Verifier
from emergency_stop.wire.trusted_keys import KeyRefusedError, UnknownKeyError, retire_key, trust_keys


def run_keys(options: argparse.Namespace, settings: Settings) -> int:
    """Carry out one of generate, list, trust and retire."""
    verbs = {"generate": _generate, "list": _list, "trust": _trust, "retire": _retire}
    try:
        return verbs[options.verb](options, settings)
    except KeyFileError as error:
        return _complain(error, EXIT_CONFIG)
    except UnknownKeyError as error:
        return _complain(error, EXIT_BAD_INPUT)
    except KeyRefusedError as error:
        return _complain(error, EXIT_REFUSED)


def _complain(error: Exception, code: int) -> int:
    print(f"estop keys: {error}", file=sys.stderr)
    return code


def _generate(options: argparse.Namespace, settings: Settings) -> int:
    """A new private key in a file of its own; nobody trusts it yet."""
    del settings
    signer, path = Signer.generate(), Path(options.file)
    try:
        signer.save(path)
    except FileExistsError:
        raise KeyRefusedError(f"{path} exists; a key is never overwritten, so name another file") from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from error
    if options.json:
        show_json({"key_id": signer.key_id, "file": str(path), "public_pem": signer.public_pem().decode()})
        return EXIT_OK
    print(signer.public_pem().decode(), end="")
    say(f"key {signer.key_id} is in {path}; above is its public half, for `estop keys trust` wherever services verify")
    return EXIT_OK


def _list(options: argparse.Namespace, settings: Settings) -> int:
    """Whom services here trust, and which key the coordinator here signs with."""
    path = trusted_file(settings)
    trusted = Verifier.load(path).key_ids if path.exists() else ()
    signing = _signing_key_id(settings)
    if options.json:
        show_json({"file": str(path), "trusted": list(trusted), "signing": signing})
        return EXIT_OK
    rows = [[key_id, "yes", "yes" if key_id == signing else ""] for key_id in trusted]
    if signing is not None and signing not in trusted:
        rows.append([signing, "NO", "yes"])
        say(f"{path} does not trust {signing}: services that use it refuse every resume; run `estop keys trust`")
    show_table(("KEY", "TRUSTED", "SIGNS HERE"), rows)
    return EXIT_OK


def _trust(options: argparse.Namespace, settings: Settings) -> int:
    path = trusted_file(settings)
    try:
        pem = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        raise KeyFileError(f"key file {options.file} cannot be read: {error.strerror}") from error
    added = trust_keys(path, pem)
    if options.json:
        show_json({"file": str(path), "added": list(added), "trusted": list(Verifier.load(path).key_ids)})
    else:
        print(f"{path} now trusts {', '.join(added)} too" if added else f"{path} trusted it already")
    return EXIT_OK


def _retire(options: argparse.Namespace, settings: Settings) -> int:
    path = trusted_file(settings)
    newest = None if options.offline else asyncio.run(_newest_hold(settings))

    def in_use(key_id: str) -> str:
        if key_id == _signing_key_id(settings):
            return f"ESTOP_SIGNING_KEY_FILE={settings.signing_key_file} holds it"
        if newest is not None and newest.key_id == key_id:
            return (
                f"the newest hold, of {newest.scope} at {moment(newest.updated_at)}, is signed with it (where the"
                " coordinators' logs say that another took over since, and nothing was stopped yet: --offline)"
            )
        return ""

    key_id = retire_key(path, options.key, in_use=in_use)
    left: dict[str, Any] = {"file": str(path), "retired": key_id, "trusted": list(Verifier.load(path).key_ids)}
    if options.json:
        show_json(left)
    else:
        print(f"{path} no longer trusts {key_id}")
    return EXIT_OK


async def _newest_hold(settings: Settings) -> Hold | None:
    """The newest signed hold that the broker has; raises ``UnavailableError`` where it does not answer."""
    installation = Installation(settings)
    try:
        async with installation.following(HOLDS):
            signed = [hold for hold in installation.all_of(HOLDS, Hold) if hold.key_id]
    except UnavailableError as error:
        raise UnavailableError(f"{error}; --offline retires the key without asking who signed last") from None
    return max(signed, key=lambda hold: hold.updated_at, default=None)


def _signing_key_id(settings: Settings) -> str | None:
    return None if settings.signing_key_file is None else Signer.load(settings.signing_key_file).key_id
