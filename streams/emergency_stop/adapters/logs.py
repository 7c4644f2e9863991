"""What a process says of itself: one line per event on standard error, as text or JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

from emergency_stop.config import Settings

_NOISY: Final = ("aiokafka", "faust", "mode", "asyncio", "numba", "urllib3")
REPEAT_AFTER_S: Final = 10.0
_KINDS_MAX: Final = 1_000


def configure_logging(settings: Settings) -> None:
    """One handler on standard error; libraries speak from warning on and repeat nothing, unless the level is debug."""
    level = getattr(logging, settings.log_level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.log_format == "json" else _text_formatter())
    if level > logging.DEBUG:
        handler.addFilter(Repeats(_NOISY))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else logging.WARNING)


class Repeats(logging.Filter):
    """Lets a library say the same thing once in a while, with how often it wanted to.

    A broker that is away makes every client complain several times a second, which buries what matters. The same is
    what has the same logger and the same text before its arguments are filled in. Not for our own loggers.
    """

    def __init__(self, loggers: tuple[str, ...], again_after_s: float = REPEAT_AFTER_S) -> None:
        super().__init__()
        self._loggers = loggers
        self._again_after_s = again_after_s
        #: When each was last let through, and how many were not since.
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in self._loggers:
            return True
        kind = (record.name, str(record.msg))
        said_at, unsaid = self._said.get(kind, (float("-inf"), 0))
        if 0 <= record.created - said_at < self._again_after_s:
            self._said[kind] = (said_at, unsaid + 1)
            return False
        if len(self._said) >= _KINDS_MAX:
            self._said.clear()
        self._said[kind] = (record.created, 0)
        if unsaid:
            record.msg, record.args = f"{record.getMessage()} (and {unsaid} more like it since the last)", None
        return True


def _text_formatter() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


class _JsonFormatter(logging.Formatter):
    """One JSON object per line: at (ms), level, logger, message, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)
