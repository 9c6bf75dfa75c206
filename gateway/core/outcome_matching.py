"""Matches what turned out to be true later with what was answered: which arm was right?

An outcome is said of a request id: good or not, a number (more is better), or the true label. Invariants: at most
`most` requests are remembered, the oldest go first; an outcome counts once; one for a request that is not (or no
longer) known is counted as unmatched and blames nobody.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.core.pairing import NO_PAIRS, Pairing
from gateway.releases import PairCounts

MOST_REMEMBERED = 100_000
_WAITING = 10_000
"""Outcomes may come a batch at a time, all of one arm's first: so many of each wait for a partner."""

Label = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became known of one request: exactly one of the three."""

    request_id: str
    good: bool | None = None
    value: float | None = None
    label: Label | None = None


class OutcomeMatching:
    """Remembers who answered which request, and with which label where answers have one."""

    def __init__(self, counts: PairCounts = NO_PAIRS, matched: int = 0, most: int = MOST_REMEMBERED) -> None:
        self._pairs = Pairing(counts, kept=(_WAITING, _WAITING))
        self._most = most
        self._order: deque[str] = deque()
        self._known: dict[str, list[Label | bool | None]] = {}
        self._values: tuple[deque[float], deque[float]] = (deque(maxlen=_WAITING), deque(maxlen=_WAITING))
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
        self._known[request_id] = [is_candidate, label, None]

    def copied(self, request_id: str, label: Label | None) -> None:
        """The candidate answered the copy of a request that stable had answered."""
        known = self._known.get(request_id)
        if known is not None:
            known[2] = label

    def report(self, outcome: Outcome) -> bool:
        """Takes an outcome; returns whether it could be matched."""
        known = self._known.get(outcome.request_id)
        if known is None:
            self.unmatched += 1
            return False
        is_candidate, label, copy = known
        if outcome.label is not None and not isinstance(label, tuple):
            self.without_label += 1
            return False
        del self._known[outcome.request_id]
        self.matched += 1
        if outcome.label is not None:
            wrong = label != outcome.label
            if isinstance(copy, tuple) and not is_candidate:
                self._pairs.pair(copy != outcome.label, wrong)
            else:
                self._take(bool(is_candidate), wrong)
        elif outcome.good is not None:
            self._take(bool(is_candidate), not outcome.good)
        elif outcome.value is not None:
            self._compare(bool(is_candidate), outcome.value)
        return True

    def _take(self, is_candidate: bool, bad: bool) -> None:
        if is_candidate:
            self._pairs.candidate(bad)
        else:
            self._pairs.stable(bad)

    def _compare(self, is_candidate: bool, value: float) -> None:
        """A number is worse than the number that the other arm's partner got."""
        others = self._values[not is_candidate]
        if not others:
            self._values[is_candidate].append(value)
            return
        other = others.pop()
        candidate, stable = (value, other) if is_candidate else (other, value)
        self._pairs.pair(candidate < stable, stable < candidate)
