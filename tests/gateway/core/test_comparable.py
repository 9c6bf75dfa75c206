"""Which executions may be compared."""

from __future__ import annotations

import random

import pytest

from gateway.core.comparable import Comparable, equal_shares
from gateway.core.pairing import LatencyPairing
from gateway.releases import Arm, ReleaseKind
from tests.support.releases import plan, running, steps


@pytest.mark.parametrize(("weight", "equal"), [(100, False), (3998, False), (4000, True), (6000, True), (6002, False)])
def test_shares_are_equal_around_the_half(weight: int, equal: bool) -> None:
    assert equal_shares(running(plan(steps=steps(weight)))) == equal
    arms = (Arm("b", 2, weight // 2), Arm("c", 3, 5000))
    assert equal_shares(running(plan(kind=ReleaseKind.AB, arms=arms, steps=(), judged=False))) == equal


def judged(share: float, busy: float, slower: float = 1.0) -> tuple[int, int]:
    """Plays executions of which the candidate has `share`; each runs beside the other as often as that one is busy."""
    rng, comparable, pairing = random.Random(7), Comparable(), LatencyPairing(1, 0.15)
    comparable.equal = 0.4 <= share <= 0.6
    for _ in range(20_000):
        is_candidate = rng.random() < share
        beside = rng.random() < busy * ((1 - share) if is_candidate else share)
        elapsed = 1e6 * rng.lognormvariate(0, 0.2) * (1.6 if beside else 1.0) * (slower if is_candidate else 1.0)
        if comparable.says(is_candidate, beside=beside):
            pairing.observe(is_candidate, 1, round(elapsed), equal=comparable.equal)
    return pairing.counts.candidate_only, pairing.counts.stable_only


def test_on_a_busy_machine_only_equal_shares_are_compared() -> None:
    slow, fast = judged(0.1, 0.95)
    assert slow + fast < 20
    slow, fast = judged(0.5, 0.95)
    assert slow < 0.45 * (slow + fast)
    slow, fast = judged(0.5, 0.95, slower=1.4)
    assert slow > 0.55 * (slow + fast)


def test_on_an_idle_machine_a_slow_version_shows_at_a_small_share() -> None:
    slow, fast = judged(0.05, 0.02, slower=1.4)
    assert slow + fast > 500
    assert slow > 0.6 * (slow + fast)
