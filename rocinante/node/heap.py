"""glibc's allocator, told that large buffers come and go.

By default a freed buffer of a megabyte goes back to the kernel at once, and the next one is mapped and zeroed page by
page: with batches of flows that was 15 % of a node's processor time. Kept instead are at most HEAP_KEPT_BYTES of free
memory at the heap's end.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Final

from rocinante import limits

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""malloc.h; glibc only."""


def keep_large_buffers() -> bool:
    """Once, at the start of the process. False where the C library has no such setting (musl): nothing is lost but
    speed."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    # Either call also ends glibc's own adjusting of both numbers.
    kept = mallopt(_M_TRIM_THRESHOLD, limits.HEAP_KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, limits.HEAP_BUFFER_BYTES)
    return bool(kept)
