"""How a command can end, apart from 2 (argparse) and 78 (settings). Imports nothing of weight."""

from __future__ import annotations

from typing import Final

#: Of ``sysexits.h``.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 65
EXIT_UNAVAILABLE: Final = 69
EXIT_NOT_PROVEN: Final = 75
EXIT_REFUSED: Final = 77


class UnavailableError(RuntimeError):
    """The broker, or a topic, cannot be reached; the text says which and what to try."""
