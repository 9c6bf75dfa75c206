"""The protobuf wire format, as much as inference messages need: varints, and where a message's tail begins.

`scan` separates what varies between the messages of one client (the id and the raw tensors) from what does not (all
other fields: the head). It judges nothing else: the head is given to the protobuf library or, byte for byte the same
as one that the library has accepted before, taken from a cache. Whatever `scan` does not expect it leaves to the
library too, by raising `Unusual`; so the library alone decides what is malformed.
"""

from __future__ import annotations

from gateway.tensors import Buffer

Slices = list[tuple[int, int]]
MOST_FIELDS = 4096
"""Top-level fields that `scan` looks at."""
_TURNS = range(MOST_FIELDS)
_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


class Unusual(Exception):
    """The message is malformed or written in a way that only the protobuf library should judge."""


class TooManyFields(Unusual):
    """The message has more than `MOST_FIELDS` top-level fields."""


def varint(value: int) -> bytes:
    """Returns a non-negative integer as a varint."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(tag: int, content: bytes) -> bytes:
    """Returns a length-delimited field; `tag` is the whole one-byte tag (field number and wire type 2)."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    return bytes((tag,)) + varint(length) + content


def _varint_at(data: Buffer, at: int, longest: int) -> tuple[int, int]:
    """Returns (value, position after it) of a varint of at most `longest` bytes."""
    value = shift = 0
    for _ in range(longest):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Unusual


def scan(data: Buffer, start: int, id_tag: int, raw_tag: int) -> tuple[bytes, tuple[int, int] | None, Slices]:
    """Separates the top-level fields of a message.

    Returns:
        (all fields but the id and the raw contents, where the id is, where the raw contents are).

    Raises:
        Unusual: see above; TooManyFields where it has more than any inference message needs.
    """
    end = len(data)
    identifier: tuple[int, int] | None = None
    raws: Slices = []
    pieces: list[Buffer] = []
    kept_from = at = start
    try:
        for _ in _TURNS:
            if at >= end:
                break
            field = at
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = _varint_at(data, field, 5)
            wire = tag & 7
            if wire == 2:
                length = data[at]
                at += 1
                if length >= 0x80:
                    length, at = _varint_at(data, at - 1, 5)
                stop = at + length
                if stop > end:
                    raise Unusual
                if tag == raw_tag:
                    raws.append((at, stop))
                elif tag == id_tag:
                    if identifier is not None:
                        raise Unusual
                    identifier = (at, stop)
                else:
                    at = stop
                    continue
                if field > kept_from:
                    pieces.append(data[kept_from:field])
                kept_from = at = stop
            elif wire == 0:
                _, at = _varint_at(data, at, 10)
            elif wire == 5:
                at += 4
            elif wire == 1:
                at += 8
            else:
                raise Unusual
        else:
            if at < end:
                raise TooManyFields
    except IndexError:
        raise Unusual from None
    if at > end:
        raise Unusual
    if kept_from < end:
        pieces.append(data[kept_from:end])
    head = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
    return head, identifier, raws
