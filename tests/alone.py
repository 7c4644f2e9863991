"""An environment with the wheel, what its metadata says it needs, and nothing else: as an installer would make it.

No index is asked. The wheel is built from this tree; the distributions that it needs, and those that they need, are
linked out of the environment that runs the tests, by their names in the wheel's own metadata.
"""

from __future__ import annotations

import email
import importlib.metadata
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]


def build_wheel(folder: Path) -> Path:
    """The wheel of this tree, as a release would have it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def requirements_of(wheel: Path) -> list[Requirement]:
    """What the wheel's metadata asks for, with the extras in the markers."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def needed(requirements: Iterable[Requirement], extra: str = "") -> dict[str, importlib.metadata.Distribution]:
    """Every distribution that an installer would bring for ``requirements``, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [one for one in requirements if _applies(one, extra)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            inner = Requirement(text)
            if any(_applies(inner, one) for one in ("", *wanted.extras)):
                waiting.append(inner)
    return found


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


class Alone:
    """A virtual environment with ``wheel`` and what it needs with ``extra``."""

    def __init__(self, folder: Path, wheel: Path, extra: str = "") -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        self.distributions = needed(requirements_of(wheel), extra)
        (packages,) = folder.glob("lib/python*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
        for distribution in self.distributions.values():
            _link(distribution, packages)

    def runs(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, with nothing of this environment in sight."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ESTOP_", "PYTHON"))}
        command = [str(self.python), "-I", "-c", script]
        return subprocess.run(
            command, env=clean | variables, cwd="/", capture_output=True, text=True, timeout=120, check=False
        )


def _link(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    """Link what lies in this environment's packages; programs beside them are not needed."""
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        place = packages / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(Path(str(distribution.locate_file(file))).resolve())
