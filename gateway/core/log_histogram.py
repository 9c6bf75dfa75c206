"""Counts spans in bins of equal ratio, so that any quantile is known within an eighth, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.messages import Nanos

_FINE = 3
_STEPS = 1 << _FINE


class LogHistogram:
    """Eight bins for each doubling; a quantile is the middle of its bin."""

    __slots__ = ("bins", "count")

    def __init__(self, bins: Mapping[int, int] | None = None) -> None:
        self.bins: dict[int, int] = dict(bins or {})
        self.count = sum(self.bins.values())

    def add(self, span: Nanos) -> None:
        """Counts one span; negative ones count as 0."""
        self.add_all((span,))

    def add_all(self, spans: Sequence[Nanos]) -> None:
        """Counts many."""
        bins = self.bins
        for span in spans:
            length = span.bit_length()
            fine = (span >> (length - 1 - _FINE)) & (_STEPS - 1) if length > _FINE else 0
            index = (length << _FINE) | fine if length > _FINE else max(0, span)
            bins[index] = bins.get(index, 0) + 1
        self.count += len(spans)

    def quantile(self, share: float) -> Nanos:
        """Returns the span that `share` of the counted ones do not exceed; 0 if there is none."""
        left = share * self.count
        for index in sorted(self.bins):
            left -= self.bins[index]
            if left <= 0:
                return _middle(index)
        return 0

    def items(self) -> Iterable[tuple[int, int]]:
        return self.bins.items()


def _middle(index: int) -> Nanos:
    length, fine = index >> _FINE, index & (_STEPS - 1)
    if length <= _FINE:
        return index
    low = (_STEPS + fine) << (length - 1 - _FINE)
    return low + (1 << (length - 1 - _FINE)) // 2
