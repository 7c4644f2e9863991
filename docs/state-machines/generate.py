"""Write the diagrams of this folder from the transition tables: ``python docs/state-machines/generate.py``."""

from __future__ import annotations

from pathlib import Path

from emergency_stop.coordinate.diagrams import documents

if __name__ == "__main__":
    for name, text in documents().items():
        (Path(__file__).parent / name).write_text(text)
