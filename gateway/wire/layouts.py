"""Messages that look exactly like an earlier one: same length, same bytes everywhere but in the id and the tensors.

Most requests of a client are such repeats. A `Layout` remembers the constant bytes with their positions; when all of
them are found again in a message of the same length, the message's fields are where they were, because the bytes that
say where fields begin and end are among the constant ones. So nothing is parsed, and the check is a few comparisons.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.wire.wire_format import Slices

H = TypeVar("H")

_LAYOUTS = 512
_MOST_CONSTANT = 4096
_MOST_PARTS = 16


class Layout(Generic[H]):
    """One remembered message: `first` are its bytes up to the first part that varies, `rest` the others by position.

    `single` is where the only tensor starts if nothing but that tensor, at the end, varies; otherwise 0.
    """

    __slots__ = ("first", "head", "identifier", "raws", "rest", "single")

    def __init__(
        self,
        head: H,
        first: bytes,
        rest: tuple[tuple[bytes, int], ...],
        identifier: tuple[int, int] | None,
        raws: tuple[tuple[int, int], ...],
        single: int,
    ) -> None:
        self.head = head
        self.first = first
        self.rest = rest
        self.identifier = identifier
        self.raws = raws
        self.single = single

    def matches(self, data: bytes) -> bool:
        """Whether `data`, whose length and `first` bytes are known to agree, agrees in the rest too."""
        for constant, at in self.rest:  # noqa: SIM110 - a generator would cost more than the comparisons
            if not data.startswith(constant, at):
                return False
        return True


class LayoutTable(Generic[H]):
    """The last layout of each message length; bounded (512 layouts of at most 4 KiB of constant bytes)."""

    __slots__ = ("by_length",)

    def __init__(self) -> None:
        self.by_length: dict[int, Layout[H]] = {}

    def learn(self, data: bytes, head: H, identifier: tuple[int, int] | None, raws: Slices) -> None:
        """Remembers how `data` is laid out, unless it has too many parts to be worth it."""
        parts = sorted(raws if identifier is None else [*raws, identifier])
        if not parts or len(parts) > _MOST_PARTS:
            return
        constants: list[tuple[bytes, int]] = []
        at = 0
        for start, stop in parts:
            constants.append((data[at:start], at))
            at = stop
        if at < len(data):
            constants.append((data[at:], at))
        if sum(len(constant) for constant, _ in constants) > _MOST_CONSTANT:
            return
        if len(self.by_length) >= _LAYOUTS:
            self.by_length.clear()
        first = constants[0][0]
        alone = identifier is None and len(raws) == 1 and raws[0][1] == len(data)
        self.by_length[len(data)] = Layout(
            head, first, tuple(constants[1:]), identifier, tuple(raws), len(first) if alone else 0
        )
