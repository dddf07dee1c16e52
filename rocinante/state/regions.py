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
