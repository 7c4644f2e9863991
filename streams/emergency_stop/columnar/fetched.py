"""What the lane hands over: the undecoded record batches of one partition's fetch response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """Whole v2 record batches, CRC-checked, control and aborted batches already removed.

    Records below ``fetch_offset`` may be present (a fetch can start mid-batch) and must be skipped.
    ``next_offset`` is the position after this response, past compaction gaps and control batches.
    """

    topic: str
    partition: int
    fetch_offset: int
    next_offset: int
    batches: tuple[bytes, ...]
