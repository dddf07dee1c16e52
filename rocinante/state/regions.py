"""Arrays that grow without moving: address space is reserved once, and memory is taken page by page as it is written.

A table of ten million flows that grew by copying would stand still for half a second each time. So a region asks for
the address space of all that it may ever hold (which costs nothing) and the kernel gives zeroed pages at the first
touch. On a host with strict overcommit (`vm.overcommit_memory=2`) reserved space counts as used, and a reservation may
be refused.
"""

from __future__ import annotations

import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rocinante.errors import ResourceExhausted

_NORESERVE: Final[int] = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Not in Python 3.11's module; Linux's number on x86-64 and aarch64."""

_POPULATE_WRITE: Final[int] = getattr(mmap, "MADV_POPULATE_WRITE", 23)
"""Not in Python's module; Linux's number."""


def reserve(items: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros, `items` long, that takes memory only where it is written.

    Raises ResourceExhausted when the kernel does not give the address space.
    """
    kind = np.dtype(dtype)
    try:
        space = mmap.mmap(-1, max(1, items * kind.itemsize), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    except (OSError, ValueError) as error:
        raise ResourceExhausted(
            f"the kernel does not reserve address space for {items} flows ({error}): allow overcommit "
            "(vm.overcommit_memory=0 or 1)"
        ) from error
    return np.frombuffer(space, kind, items)


def give_back(array: NDArray[Any], first: int, stop: int) -> None:
    """Let the kernel have the pages of these bytes again; they read as zeros. Nobody may use the array meanwhile.

    `array` is all of one that `reserve` returned, or a view of it; only whole pages go.
    """
    space = _space_of(array)
    first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = min(stop, len(space))
    if stop > first:
        space.madvise(mmap.MADV_DONTNEED, first, stop - first)


def populate(array: NDArray[Any], first: int, stop: int) -> None:
    """Have the kernel give the pages of these bytes now, as it would at the first touch of each. What they hold stays.

    It is a hint: a kernel that cannot (Linux before 5.14), or has no memory left, does nothing.
    """
    space = _space_of(array)
    first = first // mmap.PAGESIZE * mmap.PAGESIZE
    stop = min(stop, len(space))
    if stop > first:
        try:
            space.madvise(_POPULATE_WRITE, first, stop - first)
        except OSError:
            return


def _space_of(array: NDArray[Any]) -> mmap.mmap:
    """What `reserve` mapped for this array, or for the one that it is a view of."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    space = base.obj if isinstance(base, memoryview) else base
    if not isinstance(space, mmap.mmap):
        raise TypeError("the array is not one of `reserve`")
    return space
