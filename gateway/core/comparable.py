"""Which executions of two versions may be compared: those that had the same chance to be disturbed by the other one.

At a tenth of the traffic the candidate nearly always shares the machine with stable, and stable seldom with it: on a
busy machine two equal versions then differ by half, whatever is paired with what, because long executions overlap more
than short ones. Two cases are fair: both have about the same traffic, or hardly anything runs side by side.
"""

from __future__ import annotations

from gateway.releases import Release, ReleaseKind
from gateway.routes import BUCKETS

EQUAL_SHARES = (4000, 6000)
"""The candidate's share (basis points) of what candidate and stable get together, within which they are alike."""
_ALONE_SHARE = 0.9
_MEMORY = 0.02


def stable_share(release: Release) -> int:
    """Returns what is left for stable (basis points) beside the release's arms."""
    plan = release.plan
    if plan.kind is ReleaseKind.AB:
        return BUCKETS - sum(arm.weight for arm in plan.arms)
    return BUCKETS - (plan.steps[release.progress.step].weight if plan.steps else 0)


def equal_shares(release: Release) -> bool:
    """Whether the candidate and stable have about the same traffic."""
    plan, rest = release.plan, stable_share(release)
    candidate = plan.arms[0].weight if plan.kind is ReleaseKind.AB else BUCKETS - rest
    both = candidate + rest
    return both > 0 and EQUAL_SHARES[0] <= candidate * BUCKETS // both <= EQUAL_SHARES[1]


class Comparable:
    """Says of each execution whether it counts. `equal` is set from the release's shares."""

    __slots__ = ("_alone", "equal")

    def __init__(self) -> None:
        self.equal = False
        self._alone = 0.0

    def says(self, is_candidate: bool, *, beside: bool) -> bool:
        """Takes note of an execution, and returns whether its time may be compared."""
        if is_candidate:
            self._alone += _MEMORY * ((not beside) - self._alone)
        return self.equal or (not beside and self._alone >= _ALONE_SHARE)
