"""A page of accounts as bytes: JSON header (length-prefixed), keys, then the raw arrays of every series."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

FORMAT_VERSION: Final = 1
_LENGTH_BYTES: Final = 4


class PageFormatError(ValueError):
    """A page in the state log is of a format that this version does not read."""


@dataclass(frozen=True, slots=True)
class Page:
    """``arrays[name]`` are slices for the page's slots, in the order that the owner defines."""

    next_offset: int
    key_lengths: list[int]
    keys: bytes
    hashes: np.ndarray[Any, np.dtype[np.uint64]]
    arrays: Mapping[str, tuple[np.ndarray[Any, Any], ...]]


def encode_page(page: Page) -> bytes:
    """Page → bytes; native byte order, named in the header."""
    layout, parts = {}, [page.keys, page.hashes.tobytes()]
    for name, arrays in page.arrays.items():
        layout[name] = [[array.dtype.str, list(array.shape)] for array in arrays]
        parts += [np.ascontiguousarray(array).tobytes() for array in arrays]
    head = json.dumps(
        {"v": FORMAT_VERSION, "next": page.next_offset, "lengths": page.key_lengths, "arrays": layout},
        separators=(",", ":"),
    ).encode()
    return b"".join([len(head).to_bytes(_LENGTH_BYTES, "big"), head, *parts])


def decode_page(data: bytes) -> Page:
    """Bytes → page. Raises ``PageFormatError``."""
    size = int.from_bytes(data[:_LENGTH_BYTES], "big")
    head = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + size])
    if head["v"] != FORMAT_VERSION:
        raise PageFormatError(f"page format {head['v']}; this version reads {FORMAT_VERSION}")
    at = _LENGTH_BYTES + size
    lengths: list[int] = head["lengths"]
    keys_end = at + sum(length for length in lengths if length > 0)
    keys, at = data[at:keys_end], keys_end
    hashes = np.frombuffer(data, np.uint64, len(lengths), at)
    at += hashes.nbytes
    arrays: dict[str, tuple[np.ndarray[Any, Any], ...]] = {}
    for name, layout in head["arrays"].items():
        loaded = []
        for dtype, shape in layout:
            array = np.frombuffer(data, np.dtype(dtype), int(np.prod(shape)), at).reshape(shape)
            at += array.nbytes
            loaded.append(array)
        arrays[name] = tuple(loaded)
    return Page(int(head["next"]), lengths, keys, hashes, arrays)
