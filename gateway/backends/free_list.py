"""Which parts of a fixed range are free: first fit, neighbours joined again when they come back. Pure.

The method is that of Knuth, The Art of Computer Programming, volume 1, section 2.5 (algorithms A and B), with the list
of free parts kept apart from what is handed out. There are as many parts as batches in flight, so every call looks at
a few entries only.
"""

from __future__ import annotations

from bisect import bisect_left

ALIGNMENT = 64
"""Parts begin at multiples of this many bytes: a cache line, and what vector instructions like best."""


def aligned(size: int) -> int:
    """Returns `size` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class FreeList:
    """The free parts of `size` bytes, by offset. Invariants: parts do not touch or overlap, none is empty."""

    __slots__ = ("_offsets", "_sizes")

    def __init__(self, size: int) -> None:
        whole = size // ALIGNMENT * ALIGNMENT
        self._offsets = [0] if whole else []
        self._sizes = [whole] if whole else []

    @property
    def free(self) -> int:
        """Free bytes, in all parts together."""
        return sum(self._sizes)

    def take(self, size: int) -> int | None:
        """Returns the offset of `size` bytes that were free, or None where no part is large enough."""
        size = aligned(size)
        for index, room in enumerate(self._sizes):
            if room >= size:
                offset = self._offsets[index]
                if room == size:
                    del self._offsets[index], self._sizes[index]
                else:
                    self._offsets[index] = offset + size
                    self._sizes[index] = room - size
                return offset
        return None

    def give(self, offset: int, size: int) -> None:
        """Takes back what `take(size)` returned as `offset`."""
        size = aligned(size)
        offsets, sizes = self._offsets, self._sizes
        index = bisect_left(offsets, offset)
        if index < len(offsets) and offset + size == offsets[index]:
            size += sizes[index]
            del offsets[index], sizes[index]
        if index and offsets[index - 1] + sizes[index - 1] == offset:
            sizes[index - 1] += size
        else:
            offsets.insert(index, offset)
            sizes.insert(index, size)
