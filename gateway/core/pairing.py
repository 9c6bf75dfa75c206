"""Pairs what the candidate did with what the stable version did at about the same time.

Whatever troubles both (a slow disk, a burst, a broken client) hits both halves of a pair and so speaks against nobody;
what is left, the pairs in which one only was bad, is a coin that the sequential tests judge. Invariants: an observation
is in one pair at most; partners are the closest in time that are still free; queues are bounded, and what falls out of
them is counted as alone or not at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat

from gateway.messages import Instant, Nanos
from gateway.releases import PairCounts, RateCounts

NO_PAIRS, NO_RATE = PairCounts(), RateCounts()
_KEPT_STABLE = 32
_KEPT_CANDIDATE = 64
_RECENT = 50
_MOST_BUCKETS = 16
_MOST_RESTS = 4
_SHORT: Nanos = 2_000_000


class Pairing:
    """Outcomes good or bad. `counts` are the pairs, `alone` candidates that no partner was found for."""

    __slots__ = ("_candidates", "_kept", "_stables", "alone_bad", "alone_total", "both", "candidate_only", "neither",
                 "stable_only")  # fmt: skip

    def __init__(
        self,
        counts: PairCounts = NO_PAIRS,
        alone: RateCounts = NO_RATE,
        kept: tuple[int, int] = (_KEPT_CANDIDATE, _KEPT_STABLE),
    ) -> None:
        """`kept` is how many of the candidate's and of stable's may wait for a partner."""
        self.candidate_only, self.stable_only = counts.candidate_only, counts.stable_only
        self.both, self.neither = counts.both, counts.neither
        self.alone_bad, self.alone_total = alone.bad, alone.total
        self._stables: deque[bool] = deque(maxlen=kept[1])
        self._candidates: deque[bool] = deque()
        self._kept = kept[0]

    @property
    def counts(self) -> PairCounts:
        return PairCounts(self.candidate_only, self.stable_only, self.both, self.neither)

    @property
    def alone(self) -> RateCounts:
        return RateCounts(self.alone_bad, self.alone_total)

    def candidate(self, bad: bool) -> bool | None:
        """Takes what the candidate did; returns whether its partner was bad, None while it has none."""
        if self._stables:
            partner = self._stables.pop()
            self.pair(bad, partner)
            return partner
        self._candidates.append(bad)
        if len(self._candidates) > self._kept:
            self.alone_bad += self._candidates.popleft()
            self.alone_total += 1
        return None

    def stable(self, bad: bool) -> bool | None:
        """Takes what stable did; returns whether the candidate that waited for it was bad, None if none did."""
        if self._candidates:
            partner = self._candidates.popleft()
            self.pair(partner, bad)
            return partner
        self._stables.append(bad)
        return None

    def part(self) -> None:
        """Lets go of those that wait: what comes now is no longer close to them."""
        self._stables.clear()
        self._candidates.clear()

    def pair(self, candidate: bool, stable: bool) -> None:
        """Takes a pair that belongs together, such as both answers to one request."""
        if candidate:
            if stable:
                self.both += 1
            else:
                self.candidate_only += 1
        elif stable:
            self.stable_only += 1
        else:
            self.neither += 1


class FailurePairing(Pairing):
    """Failures of requests: also how many in a row were the candidate's own, and how the last ones went.

    A candidate's request waits until it is known which of stable's was closest to it in time, the one before or the one
    after: what fails is told a batch at a time, and when everything fails one of the two is told first. The newest is
    paired first; those that are too many for stable are left out. `in_a_row`: a good answer ends the row; a failure
    that stable shared neither ends nor lengthens it.
    """

    __slots__ = ("_free", "_good", "_serial", "_unseen", "_waiting", "in_a_row", "last_candidate", "last_stable",
                 "solo")  # fmt: skip

    def __init__(self, counts: PairCounts = NO_PAIRS, alone: RateCounts = NO_RATE, in_a_row: int = 0) -> None:
        super().__init__(counts, alone)
        self.in_a_row = in_a_row
        self.solo = False
        """Stable gets nothing: nobody is waited for."""
        self.last_candidate: deque[bool] = deque(maxlen=_RECENT)
        self.last_stable: deque[bool] = deque(maxlen=_RECENT)
        # Whoever waits came after all of stable's that are free: those are let in only while nobody waits.
        self._waiting: deque[tuple[Instant, bool, int]] = deque(maxlen=_KEPT_CANDIDATE)
        self._free: deque[tuple[Instant, bool]] = deque(maxlen=_KEPT_STABLE)
        self._serial = self._good = self._unseen = 0

    def request(self, is_candidate: bool, bad: bool, at: Instant) -> None:
        """Takes a request that ended at `at`."""
        if is_candidate:
            self._of_candidate(bad, at)
        else:
            self._of_stable(bad, at)

    @property
    def failing(self) -> bool:
        """Whether the candidate failed last and stable has not shown yet whether it would have failed too."""
        return bool(self._waiting) and self._waiting[-1][1]

    def stable_went_well(self, ended: Sequence[Instant]) -> None:
        """Takes stable's requests that all went well, by the instants at which they ended."""
        done = 0
        while done < len(ended) and self._waiting:
            self._of_stable(False, ended[done])
            done += 1
        rest = ended[done:]
        if rest:
            self._unseen = 0
            self.last_stable.extend(repeat(False, len(rest)))
            self._free.extend(zip(rest, repeat(False), strict=False))

    def _of_candidate(self, bad: bool, at: Instant) -> None:
        self.last_candidate.append(bad)
        self._serial += 1
        self._unseen += 1
        if not bad:
            self.in_a_row, self._good = 0, self._serial
        self._waiting.append((at, bad, self._serial))
        if self.solo or self._unseen > _KEPT_CANDIDATE:
            for _, failed, serial in self._waiting:
                self.alone_bad += failed
                self.alone_total += 1
                self.in_a_row += failed and serial > self._good
            self._waiting.clear()

    def _of_stable(self, bad: bool, at: Instant) -> None:
        self.last_stable.append(bad)
        self._unseen = 0
        while self._waiting:
            then, failed, serial = self._waiting.pop()
            before = self._free and then - self._free[-1][0] <= at - then
            partner = self._free.pop()[1] if before else bad
            self.pair(failed, partner)
            self.in_a_row += failed and not partner and serial > self._good
            if not before:
                return
        self._free.append((at, bad))

    def part(self) -> None:
        """Lets go of those that wait, and of how the last ones went: another step's traffic says nothing of this."""
        super().part()
        self._waiting.clear()
        self._free.clear()
        self.last_candidate.clear()
        self.last_stable.clear()

    @property
    def recent(self) -> tuple[RateCounts, RateCounts]:
        """How the last requests of the candidate and of stable went."""
        return (
            RateCounts(sum(self.last_candidate), len(self.last_candidate)),
            RateCounts(sum(self.last_stable), len(self.last_stable)),
        )


class LatencyPairing:
    """Execution times, compared between batches of about the same size only, that followed about as long a rest.

    A model that rests between executions has to be woken, its memory has left the caches: on a busy machine that costs
    more than many a fault. So what follows close upon another execution is compared with its like, what comes out of
    the cold with its like.

    For a quantile q the longest of m executions stands for them, with 0.5 ** (1 / m) about q: its median is the
    executions' q-quantile. `candidate_only`: the candidate's divided by what is allowed was the longer one.
    """

    __slots__ = ("_allowed", "_blocks", "_length", "_open", "candidate_only", "stable_only")

    def __init__(self, length: int, allowed: float, counts: PairCounts = NO_PAIRS) -> None:
        """`length` is m; `allowed` how much slower the candidate may be, as a share of stable's time."""
        self._length = length
        self._allowed = 10_000 + round(allowed * 10_000)
        self.candidate_only, self.stable_only = counts.candidate_only, counts.stable_only
        self._open: dict[tuple[int, bool], list[Nanos]] = {}
        self._blocks: dict[tuple[int, bool], deque[Nanos]] = {}

    @property
    def counts(self) -> PairCounts:
        return PairCounts(self.candidate_only, self.stable_only)

    def observe(self, is_candidate: bool, rows: int, elapsed: Nanos, rest: Nanos = 0, *, equal: bool = False) -> None:
        """Takes one execution of `rows` rows that took `elapsed` and began `rest` after the version's last one.

        `equal`: both versions have about the same traffic. What ran while they had not is compared among itself.
        """
        # 1, 2, 3 to 4, 5 to 8 …: within a class batches cost about the same. Rests: up to 2 ms, 8, 32, 128, more.
        rested = min(_MOST_RESTS, (max(0, rest) // _SHORT).bit_length() + 1 >> 1)
        size = (min(_MOST_BUCKETS, (rows - 1).bit_length()) * (_MOST_RESTS + 1) + rested) * 2 + equal
        block = self._open.setdefault((size, is_candidate), [])
        block.append(elapsed)
        if len(block) < self._length:
            return
        longest = max(block)
        block.clear()
        others = self._blocks.get((size, not is_candidate))
        if others:
            other = others.pop()
            self._pair(longest, other) if is_candidate else self._pair(other, longest)
            return
        self._blocks.setdefault((size, is_candidate), deque(maxlen=_KEPT_STABLE)).append(longest)

    def part(self) -> None:
        """Lets go of what waits: what comes now runs under other conditions."""
        self._open.clear()
        self._blocks.clear()

    def _pair(self, candidate: Nanos, stable: Nanos) -> None:
        left, right = candidate * 10_000, stable * self._allowed
        if left > right:
            self.candidate_only += 1
        elif left < right:
            self.stable_only += 1


def block_length(quantile: float) -> int:
    """Returns m for a quantile (0 < q < 1): how many executions one block has."""
    return max(1, min(100, round(math.log(0.5) / math.log(quantile))))
