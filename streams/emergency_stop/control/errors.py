"""How a command can end, apart from 2 (argparse) and 78 (settings). Imports nothing of weight."""

from __future__ import annotations

from typing import Final

from emergency_stop.config import EXIT_CONFIG

#: Of ``sysexits.h``.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 65
EXIT_UNAVAILABLE: Final = 69
EXIT_NOT_PROVEN: Final = 75
EXIT_REFUSED: Final = 77


class UnavailableError(RuntimeError):
    """The broker, or a topic, cannot be reached; the text says which and what to try."""

    exit_code = EXIT_UNAVAILABLE


class SignInError(UnavailableError):
    """The broker is there and refuses the sign-in, or is not trusted: settings are wrong, here or there."""

    exit_code = EXIT_CONFIG
