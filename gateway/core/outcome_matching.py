"""Matches what turned out to be true later with what was answered: which arm was right?

An outcome is said of a request id: good or not, a number (more is better), or the true label. Invariants: at most
`most` requests are remembered, the oldest go first; an outcome counts once; one for a request that is not (or no
longer) known is counted as unmatched and blames nobody; two outcomes are a pair only if their requests were answered at
about the same time, whenever the outcomes came, so that a day on which it is harder to be right blames nobody.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

from gateway.core.pairing import NO_PAIRS, Pairing
from gateway.releases import PairCounts

MOST_REMEMBERED = 100_000
_WAITING = 10_000
"""Outcomes may come a batch at a time, all of one arm's first: so many of each wait for a partner."""
_CLOSE = 1_000
"""So many requests may lie between the two of a pair."""

Label = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became known of one request: exactly one of the three."""

    request_id: str
    good: bool | None = None
    value: float | None = None
    label: Label | None = None


class _Answer:
    """Who answered a request, the how many-th it was, and with which label."""

    __slots__ = ("copy", "is_candidate", "label", "serial")

    def __init__(self, serial: int, is_candidate: bool, label: Label | None) -> None:
        self.serial = serial
        self.is_candidate = is_candidate
        self.label = label
        self.copy: Label | None = None


_Waiting = tuple[list[tuple[int, float]], list[tuple[int, float]]]


class OutcomeMatching:
    """Remembers who answered which request, and with which label where answers have one."""

    def __init__(self, counts: PairCounts = NO_PAIRS, matched: int = 0, most: int = MOST_REMEMBERED) -> None:
        self._pairs = Pairing(counts)
        self._most = most
        self._order: deque[str] = deque()
        self._known: dict[str, _Answer] = {}
        self._serial = 0
        # Who waits, by arm (stable, candidate): what was good or bad, and numbers, which are not compared with it.
        self._flags: _Waiting = ([], [])
        self._values: _Waiting = ([], [])
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

    def answered(self, request_id: str, *, is_candidate: bool, label: Label | None) -> None:
        """A caller was answered by one arm, with `label` where the answer has one."""
        known = self._known.get(request_id)
        if known is None:
            self._order.append(request_id)
            if len(self._order) > self._most:
                self._known.pop(self._order.popleft(), None)
        self._serial += 1
        self._known[request_id] = _Answer(self._serial, is_candidate, label)

    def copied(self, request_id: str, label: Label | None) -> None:
        """The candidate answered the copy of a request that stable had answered."""
        known = self._known.get(request_id)
        if known is not None:
            known.copy = label

    def report(self, outcome: Outcome) -> bool:
        """Takes an outcome; returns whether it could be matched."""
        known = self._known.get(outcome.request_id)
        if known is None:
            self.unmatched += 1
            return False
        label, copy = known.label, known.copy
        if outcome.label is not None and label is None:
            self.without_label += 1
            return False
        del self._known[outcome.request_id]
        self.matched += 1
        if outcome.label is not None:
            wrong = label != outcome.label
            if copy is not None and not known.is_candidate:
                self._pairs.pair(copy != outcome.label, wrong)
            else:
                self._take(self._flags, known, float(not wrong))
        elif outcome.good is not None:
            self._take(self._flags, known, float(outcome.good))
        elif outcome.value is not None:
            self._take(self._values, known, outcome.value)
        return True

    def _take(self, waiting: _Waiting, answer: _Answer, value: float) -> None:
        """Compares a value with that of the other arm's closest request: the smaller one is the worse."""
        mine, others = waiting[answer.is_candidate], waiting[not answer.is_candidate]
        after = bisect_left(others, (answer.serial,))
        near = [at for at in (after - 1, after) if 0 <= at < len(others)]
        closest = min(near, key=lambda at: abs(others[at][0] - answer.serial), default=None)
        if closest is None or abs(others[closest][0] - answer.serial) > _CLOSE:
            insort(mine, (answer.serial, value))
            del mine[:-_WAITING]
            return
        other = others.pop(closest)[1]
        candidate, stable = (value, other) if answer.is_candidate else (other, value)
        if waiting is self._values:
            self._pairs.pair(candidate < stable, stable < candidate)
        else:
            self._pairs.pair(not candidate, not stable)
