"""The free list against a model of it: what is handed out never overlaps, and comes back whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.free_list import ALIGNMENT, FreeList, aligned

SIZE = 64 * ALIGNMENT


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20 * ALIGNMENT)), max_size=60))
def test_parts_are_apart_and_join_again(steps: list[tuple[bool, int]]) -> None:
    free = FreeList(SIZE + 5)
    taken: list[tuple[int, int]] = []
    for take, number in steps:
        if take:
            offset = free.take(number)
            if offset is None:
                gaps = gaps_between(taken)
                assert all(gap < aligned(number) for gap in gaps), (taken, number)
            else:
                assert offset % ALIGNMENT == 0
                assert offset + aligned(number) <= SIZE
                assert all(offset + aligned(number) <= at or at + aligned(size) <= offset for at, size in taken)
                taken.append((offset, number))
        elif taken:
            free.give(*taken.pop(number % len(taken)))
        assert free.free == SIZE - sum(aligned(size) for _, size in taken)
    for part in taken:
        free.give(*part)
    assert free.take(SIZE) == 0, "everything is one part again"


def gaps_between(taken: list[tuple[int, int]]) -> list[int]:
    """Returns how large the free parts must be, given what is taken."""
    gaps, at = [], 0
    for offset, size in sorted(taken):
        gaps.append(offset - at)
        at = offset + aligned(size)
    return [*gaps, SIZE - at]


def test_nothing_to_hand_out() -> None:
    free = FreeList(ALIGNMENT - 1)
    assert free.take(1) is None
    assert free.free == 0
