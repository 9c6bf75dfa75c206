"""Matches what turned out to be true later with what was answered: which arm was right?

An outcome is said of a request id: good or not, a number (more is better), or the true label. Invariants: at most
`most` requests are remembered, the oldest go first; an outcome counts once; one for a request that is not (or no
longer) known is counted as unmatched and blames nobody; two outcomes are a pair only if their requests were answered at
about the same time, whenever the outcomes came, so that a day on which it is harder to be right blames nobody.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.pairing import NO_PAIRS, Pairing
from gateway.releases import PairCounts

MOST_REMEMBERED = 100_000
_WAITING = 10_000
"""Outcomes may come a batch at a time, all of one arm's first: so many of each wait for a partner."""
_CLOSE = 1_000
"""So many requests may lie between the two of a pair."""

Label = tuple[int | str, ...]
Raw = bytes
"""What an answer's label can be found out from: of most answers nobody ever asks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became known of one request: exactly one of the three."""

    request_id: str
    good: bool | None = None
    value: float | None = None
    label: Label | None = None


# Who answered a request: its serial number and whether that was the candidate; the raw label follows. Bytes, because
# the garbage collector does not look at them: a hundred thousand of anything else stop the event loop for tens of
# milliseconds, again and again.
_WHO = struct.Struct("<Q?")
_Waiting = tuple[list[tuple[int, float]], list[tuple[int, float]]]


class OutcomeMatching:
    """Remembers who answered which request, and with which label where answers have one."""

    def __init__(self, counts: PairCounts = NO_PAIRS, matched: int = 0, most: int = MOST_REMEMBERED) -> None:
        """Set `label_of` before `answered` is told anything `raw`."""
        self._pairs = Pairing(counts)
        self._most = most
        self._order: deque[str] = deque()
        self._known: dict[str, bytes] = {}
        # Of those whose label is known: what they said, and what the candidate said to a copy.
        self._labels: dict[str, Label] = {}
        self._copies: dict[str, Label] = {}
        self._serial = 0
        # Who waits, by arm (stable, candidate): what was good or bad, and numbers, which are not compared with it.
        self._flags: _Waiting = ([], [])
        self._values: _Waiting = ([], [])
        self.label_of: Callable[[Raw], Label | None] = lambda raw: None
        self.matched = matched
        self.unmatched = 0
        self.without_label = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def counts(self) -> PairCounts:
        return self._pairs.counts

    def knows(self, request_id: str) -> bool:
        """Whether an outcome of this request could be matched."""
        return request_id in self._known

    def answered(self, request_id: str, *, is_candidate: bool, label: Label | None, raw: Raw | None = None) -> None:
        """A caller was answered by one arm, with `label` where the answer has one; `raw` stands in for it."""
        if request_id not in self._known:
            self._order.append(request_id)
            if len(self._order) > self._most:
                self._forget(self._order.popleft())
        self._serial += 1
        who = _WHO.pack(self._serial, is_candidate)
        self._known[request_id] = who + raw if raw is not None else who
        if label is not None:
            self._labels[request_id] = label
        elif self._labels:
            self._labels.pop(request_id, None)
        if self._copies:
            self._copies.pop(request_id, None)  # of an earlier request with this id

    def copied(self, request_id: str, label: Label | None) -> None:
        """The candidate answered the copy of a request that stable had answered."""
        if request_id in self._known and label is not None:
            self._copies[request_id] = label

    def report(self, outcome: Outcome) -> bool:
        """Takes an outcome; returns whether it could be matched."""
        request_id = outcome.request_id
        known = self._known.get(request_id)
        if known is None:
            self.unmatched += 1
            return False
        serial, is_candidate = _WHO.unpack_from(known)
        label = None
        if outcome.label is not None:
            raw = known[_WHO.size :]
            label = self.label_of(raw) if raw else self._labels.get(request_id)
            if label is None:
                self.without_label += 1
                return False
        copy = self._copies.get(request_id)
        self._forget(request_id)
        self.matched += 1
        if outcome.label is not None:
            wrong = label != outcome.label
            if copy is not None and not is_candidate:
                self._pairs.pair(copy != outcome.label, wrong)
            else:
                self._take(self._flags, serial, is_candidate, float(not wrong))
        elif outcome.good is not None:
            self._take(self._flags, serial, is_candidate, float(outcome.good))
        elif outcome.value is not None:
            self._take(self._values, serial, is_candidate, outcome.value)
        return True

    def _forget(self, request_id: str) -> None:
        self._known.pop(request_id, None)
        self._labels.pop(request_id, None)
        self._copies.pop(request_id, None)

    def _take(self, waiting: _Waiting, serial: int, is_candidate: bool, value: float) -> None:
        """Compares a value with that of the other arm's closest request: the smaller one is the worse."""
        mine, others = waiting[is_candidate], waiting[not is_candidate]
        after = bisect_left(others, (serial,))
        near = [at for at in (after - 1, after) if 0 <= at < len(others)]
        closest = min(near, key=lambda at: abs(others[at][0] - serial), default=None)
        if closest is None or abs(others[closest][0] - serial) > _CLOSE:
            insort(mine, (serial, value))
            del mine[:-_WAITING]
            return
        other = others.pop(closest)[1]
        candidate, stable = (value, other) if is_candidate else (other, value)
        if waiting is self._values:
            self._pairs.pair(candidate < stable, stable < candidate)
        else:
            self._pairs.pair(not candidate, not stable)
