"""A page of accounts as bytes: a version, then in an LZ4 block: JSON header (length-prefixed), key lengths, keys,
hashes, and the raw arrays of every series.

Compressed here and fast, because the producer's LZ4 is the slow one that compresses best.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cramjam
import numpy as np

FORMAT_VERSION: Final = 3
_LENGTH_BYTES: Final = 4


class PageFormatError(ValueError):
    """A page in the state log is of a format that this version does not read."""


@dataclass(frozen=True, slots=True)
class Page:
    """``arrays[name]`` are slices for the page's slots, in the order that the owner defines."""

    next_offset: int
    key_lengths: np.ndarray[Any, np.dtype[np.int32]]
    keys: bytes
    hashes: np.ndarray[Any, np.dtype[np.uint64]]
    arrays: Mapping[str, tuple[np.ndarray[Any, Any], ...]]


def encode_page(page: Page) -> bytes:
    """Page → bytes; native byte order, named in the header."""
    layout, parts = {}, [page.key_lengths.tobytes(), page.keys, page.hashes.tobytes()]
    for name, arrays in page.arrays.items():
        layout[name] = [[array.dtype.str, list(array.shape)] for array in arrays]
        parts += [array.tobytes() for array in arrays]
    head = json.dumps(
        {"next": page.next_offset, "slots": len(page.key_lengths), "keys": len(page.keys), "arrays": layout},
        separators=(",", ":"),
    ).encode()
    whole = b"".join([len(head).to_bytes(_LENGTH_BYTES, "big"), head, *parts])
    return bytes([FORMAT_VERSION]) + bytes(cramjam.lz4.compress_block(whole))


def decode_page(data: bytes) -> Page:
    """Bytes → page. Raises ``PageFormatError``."""
    if data[0] != FORMAT_VERSION:
        raise PageFormatError(
            f"a state record has page format {data[0]}, and this version reads {FORMAT_VERSION}: another version wrote"
            " it; go back to that one, or empty the state topic, so that telemetry is read again from its beginning"
        )
    whole = bytes(cramjam.lz4.decompress_block(data[1:]))
    size = int.from_bytes(whole[:_LENGTH_BYTES], "big")
    at = _LENGTH_BYTES + size
    head = json.loads(whole[_LENGTH_BYTES:at])
    slots, key_bytes = int(head["slots"]), int(head["keys"])
    lengths = np.frombuffer(whole, np.int32, slots, at)
    at += lengths.nbytes
    keys = whole[at : at + key_bytes]
    at += key_bytes
    hashes = np.frombuffer(whole, np.uint64, slots, at)
    at += hashes.nbytes
    arrays: dict[str, tuple[np.ndarray[Any, Any], ...]] = {}
    for name, layout in head["arrays"].items():
        loaded = []
        for dtype, shape in layout:
            array = np.frombuffer(whole, np.dtype(dtype), int(np.prod(shape)), at).reshape(shape)
            at += array.nbytes
            loaded.append(array)
        arrays[name] = tuple(loaded)
    return Page(int(head["next"]), lengths, keys, hashes, arrays)
