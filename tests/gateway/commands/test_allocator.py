from __future__ import annotations

import resource

from gateway.commands.allocator import keep_freed_memory

PAGES = (8 << 20) // resource.getpagesize()


def test_large_buffers_are_not_given_back_between_two_requests() -> None:
    if not keep_freed_memory():  # another C library
        return
    bytearray(8 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(b"\1") * (8 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * PAGES
