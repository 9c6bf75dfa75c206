"""Where the elements of a raw BYTES tensor begin and end: a 4-byte little-endian length, then so many bytes, repeated.

Both directions need it: a request's framing must be right before it may share a batch (a wrong length would shift
every later caller's elements), and a merged answer is cut between elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import unpack_from

from gateway.tensors import Buffer

_UNIFORM_FROM = 16


def boundaries(data: Buffer, counts: Sequence[int]) -> list[int]:
    """Returns where each of `len(counts)` consecutive runs of elements ends; run i has `counts[i]` elements.

    Raises:
        ValueError: a length prefix is cut short or points past the end, or there are more or fewer elements.
    """
    size = len(data)
    total = sum(counts)
    if total * 4 > size:
        raise ValueError(f"{size} bytes of data cannot hold {total} elements")
    if total >= _UNIFORM_FROM and size % total == 0 and _is_uniform(data, size // total, total):
        width = size // total
        ends, elements = [], 0
        for count in counts:
            elements += count
            ends.append(elements * width)
        return ends
    ends, offset = [], 0
    for count in counts:
        for _ in range(count):
            if offset + 4 > size:
                raise ValueError(f"the data ends before element {_index(data, offset)} of {total}")
            offset += 4 + unpack_from("<I", data, offset)[0]
            if offset > size:
                raise ValueError(f"an element reaches {offset - size} bytes past the end of the data")
        ends.append(offset)
    if offset != size:
        raise ValueError(f"{size - offset} bytes of data follow the last of {total} elements")
    return ends


def _is_uniform(data: Buffer, width: int, total: int) -> bool:
    """Whether all elements are `width` bytes including their prefix: then no walk over each is needed."""
    view = memoryview(data)
    prefix = (width - 4).to_bytes(4, "little") if width - 4 < 1 << 32 else b""
    return bool(prefix) and all(bytes(view[i::width]) == prefix[i : i + 1] * total for i in range(4))


def _index(data: Buffer, end: int) -> int:
    """Returns how many whole elements lie before `end`; only for messages."""
    index = offset = 0
    while offset < end:
        offset += 4 + int(unpack_from("<I", data, offset)[0])
        index += 1
    return index
