"""Which waiting jobs start now, and which running ones give way. Pure.

Decides the order: priority; then the owner who has used the least lately; then who came first. Decides gaps: a job may
overtake one that does not fit yet (backfill), until that one has waited `reserve_after_s`; from then on everything
that becomes free is kept for it. Decides preemption: for the first job that does not fit, preemptible jobs of strictly
lower priority give way, the lowest and youngest first, and only if that makes the job fit.

Invariants: never more in use than there is; no job waits for ever behind smaller ones; equal input, equal answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# A running job counts towards its owner's share as if it had run this long already, so that shares move at once.
_STARTED_COUNTS_S = 60.0


@dataclass(frozen=True, slots=True)
class Amount:
    """Slots: of a machine, of a job, or free."""

    cpus: int
    gpus: int
    memory_mib: int

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpus + other.cpus, self.gpus + other.gpus, self.memory_mib + other.memory_mib)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.cpus - other.cpus, self.gpus - other.gpus, self.memory_mib - other.memory_mib)

    def fits(self, free: Amount) -> bool:
        return self.cpus <= free.cpus and self.gpus <= free.gpus and self.memory_mib <= free.memory_mib

    def share(self, whole: Amount) -> float:
        """Returns the largest part of any one resource of `whole` that this is (dominant share)."""
        parts = ((self.cpus, whole.cpus), (self.gpus, whole.gpus), (self.memory_mib, whole.memory_mib))
        return max((part / total for part, total in parts if total > 0), default=0.0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that could start now; `order` is its place in line, `waited_s` since when it could have started."""

    job: int
    owner: str
    priority: int
    amount: Amount
    order: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs; `giving_way` ones have been told to stop already."""

    job: int
    owner: str
    priority: int
    amount: Amount
    order: int
    preemptible: bool
    giving_way: bool


@dataclass(frozen=True, slots=True)
class Choice:
    start: tuple[int, ...]
    preempt: tuple[int, ...]


def choose(
    waiting: Iterable[Waiting],
    running: Sequence[Running],
    capacity: Amount,
    usage: Mapping[str, float],
    reserve_after_s: float,
) -> Choice:
    """Returns the jobs to start, in order, and those to preempt. `usage` is each owner's recent use (share-seconds)."""
    free = capacity
    shares = dict(usage)
    for one in running:
        free -= one.amount
        shares[one.owner] = shares.get(one.owner, 0.0) + _STARTED_COUNTS_S * one.amount.share(capacity)
    left = list(waiting)
    start: list[int] = []
    blocked: Waiting | None = None
    preempt: tuple[int, ...] = ()
    while left:
        best = min(left, key=lambda one: (-one.priority, shares.get(one.owner, 0.0), one.order))
        left.remove(best)
        if best.amount.fits(free):
            start.append(best.job)
            free -= best.amount
            shares[best.owner] = shares.get(best.owner, 0.0) + _STARTED_COUNTS_S * best.amount.share(capacity)
            continue
        if blocked is None:
            blocked = best
            preempt = _giving_way(best, running, free)
            if preempt or best.waited_s >= reserve_after_s or any(one.giving_way for one in running):
                break  # what becomes free is for this one
        left = [one for one in left if one.amount.fits(free)]
    return Choice(tuple(start), preempt)


def _giving_way(blocked: Waiting, running: Sequence[Running], free: Amount) -> tuple[int, ...]:
    """Returns the fewest-priority running jobs that make room for `blocked`; nothing if they cannot."""
    for one in running:
        if one.giving_way:
            free += one.amount
    chosen: list[Running] = []
    able = [one for one in running if one.preemptible and not one.giving_way and one.priority < blocked.priority]
    for one in sorted(able, key=lambda one: (one.priority, -one.order)):
        if blocked.amount.fits(free):
            break
        chosen.append(one)
        free += one.amount
    if not blocked.amount.fits(free):
        return ()
    # Whoever turned out not to be needed goes on.
    for one in list(chosen):
        if blocked.amount.fits(free - one.amount):
            chosen.remove(one)
            free -= one.amount
    return tuple(one.job for one in chosen)
