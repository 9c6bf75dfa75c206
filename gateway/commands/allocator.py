"""The C library's allocator, told not to hand memory back between two requests with large tensors."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_OWN_MAPPING_BYTES = 16 << 20


def keep_freed_memory() -> bool:
    """Lets the process keep up to 64 MiB that it has freed; returns whether the allocator takes the wish (glibc does).

    A request with a picture needs a few buffers of its size for a few milliseconds. Left alone, glibc gives their pages
    back at once and takes new, zeroed ones for the next request: 75 page faults for 600 KB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES))
