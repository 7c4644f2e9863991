"""Loads from an address, for kernels: numba counts references to every array that a helper is given.

Two locked instructions a helper and row, and they cost a third of the detector's time: compilers drop them in straight
code only. So a kernel's entry takes arrays, and its helpers take where their memory is: no bounds are checked here,
every caller has checked its own, and the entry's caller keeps the array alive. With numba's compiler off
(``NUMBA_DISABLE_JIT``), an address is the array itself, and every load is checked: that is how tests find a kernel that
reads outside of its buffer.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic


def _load(bits, result, *, signed=False):
    """A load of ``bits`` from (address, offset in bytes), aligned or not, widened to 64."""

    def typing(_context, address, offset):
        def generate(_target, builder, _signature, arguments):
            place = builder.inttoptr(builder.add(*arguments), ir.IntType(bits).as_pointer())
            loaded = builder.load(place)
            loaded.align = 1
            if bits == 64:
                return loaded
            return (builder.sext if signed else builder.zext)(loaded, ir.IntType(64))

        return result(types.int64, types.int64), generate

    return intrinsic(typing)


def _checked(size):
    """The same for an array in place of its address; raises ``IndexError`` where compiled code would read astray."""

    def load(array, offset):
        if not 0 <= offset <= len(array) - size:
            raise IndexError(f"{size} bytes at {offset} of {len(array)}")
        return np.uint64(int.from_bytes(array[int(offset) : int(offset) + size].tobytes(), "little"))

    return load


if getattr(config, "DISABLE_JIT", 0):
    byte_at, four_at, eight_at = _checked(1), _checked(4), _checked(8)

    def int_at(array, index):
        if not 0 <= index < array.size:
            raise IndexError(f"{index} of {array.size}")
        return np.int64(array.ravel()[index])

    def address_of(array):
        return array

else:
    #: (address, offset in bytes) → one, four or eight bytes, little-endian, as an unsigned 64-bit integer.
    byte_at, four_at, eight_at = _load(8, types.uint64), _load(32, types.uint64), _load(64, types.uint64)
    _signed_at = _load(32, types.int64, signed=True)

    @njit(inline="always")
    def int_at(address, index):
        """Element ``index`` of an int32 array, counted through all its dimensions."""
        return _signed_at(address, index * 4)

    @njit(inline="always")
    def address_of(array):
        """Where a C-contiguous array's memory begins."""
        return types.int64(array.ctypes.data)
