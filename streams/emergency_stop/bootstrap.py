"""The composition root: which process a command is, and what every process shares. Imports lazily."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, Final

from emergency_stop.adapters.logs import configure_logging
from emergency_stop.config import Settings

#: Where a process's ``run(settings) -> int`` is.
PROCESSES: Final = {
    "detector": "emergency_stop.apps.detector:run",
    "coordinator": "emergency_stop.apps.coordinator:run",
    "sink": "emergency_stop.apps.sink.main:run",
    "notifier": "emergency_stop.apps.notifier.main:run",
    "migrate": "emergency_stop.apps.sink.main:migrate",
    "migrate --dry-run": "emergency_stop.apps.sink.main:show_migrations",
    "migrate --roles": "emergency_stop.apps.sink.main:make_roles",
    "dev": "emergency_stop.apps.dev:run_dev",
    "demo": "emergency_stop.apps.demo:run_demo",
}


def run_process(name: str, settings: Settings) -> int:
    """Run a process until it ends; blocking. Returns its exit code."""
    prepare(settings)
    run: Callable[[Settings], int] = load(PROCESSES[name])
    return run(settings)


def load(where: str) -> Any:
    """``module:attribute`` → the attribute."""
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def prepare(settings: Settings) -> None:
    """Logging, and where compiled kernels are kept; before anything that compiles is imported."""
    configure_logging(settings)
    if settings.kernel_cache_dir is not None:  # said in so many words, so it wins over what the image sets
        os.environ["NUMBA_CACHE_DIR"] = str(settings.kernel_cache_dir)
    if settings.schemas_dir is not None:
        os.environ.setdefault("ESTOP_SCHEMAS", str(settings.schemas_dir))
