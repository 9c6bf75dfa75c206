"""Pairs: each observation in one at most, common causes cancel, queues are bounded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log_histogram import LogHistogram
from gateway.core.outcome_matching import Outcome, OutcomeMatching
from gateway.core.pairing import FailurePairing, LatencyPairing, Pairing, block_length
from gateway.core.score_bins import ScoreBins, scores_of
from gateway.core.sequential import distance
from gateway.releases import PairCounts, RateCounts


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_each_observation_is_in_one_pair_at_most(seen: list[tuple[bool, bool]]) -> None:
    pairing = Pairing()
    for is_candidate, bad in seen:
        (pairing.candidate if is_candidate else pairing.stable)(bad)
    candidates = [bad for is_candidate, bad in seen if is_candidate]
    stables = [bad for is_candidate, bad in seen if not is_candidate]
    counts = pairing.counts
    assert counts.total + pairing.alone.total <= len(candidates)
    assert counts.total <= len(stables)
    assert counts.candidate_only + counts.both <= sum(candidates)
    assert counts.stable_only + counts.both <= sum(stables)


def told(pairing: FailurePairing, *batches: tuple[int, str, bool, int]) -> None:
    """Lets requests end: (instant, "c" or "s" for the arm, whether they failed, how many of them)."""
    for at, arm, bad, count in batches:
        for _ in range(count):
            pairing.request(arm == "c", bad, at)


def test_what_troubles_both_speaks_against_nobody() -> None:
    pairing = FailurePairing()
    for n in range(100):
        told(pairing, (10 * n, "s", True, 1), (10 * n + 1, "c", True, 1))
    told(pairing, (1_001, "s", False, 1))
    assert pairing.counts == PairCounts(both=100)
    assert pairing.in_a_row == 0
    assert pairing.recent == (RateCounts(50, 50), RateCounts(49, 50))


@pytest.mark.parametrize("first", ["c", "s"])
def test_when_everything_fails_it_does_not_matter_who_is_told_first(first: str) -> None:
    pairing, other = FailurePairing(), "s" if first == "c" else "c"
    for burst, bad in enumerate([False] * 5 + [True] * 5 + [False] * 5):
        at = 1_000 * burst
        told(pairing, (at, first, bad, 16), (at + 10, other, bad, 16))
        assert pairing.in_a_row == 0
    assert (pairing.counts.candidate_only, pairing.counts.stable_only) == (0, 0)
    assert pairing.counts.both >= 64


def test_failures_in_a_row_are_the_candidates_own() -> None:
    pairing = FailurePairing()
    for n in range(3):
        told(pairing, (10 * n, "c", True, 1), (10 * n + 1, "s", False, 1))
    assert pairing.in_a_row == 3
    told(pairing, (30, "c", True, 1))
    assert pairing.in_a_row == 3, "stable may be failing as well"
    told(pairing, (31, "s", True, 1))
    assert pairing.in_a_row == 3, "it was"
    told(pairing, (40, "c", True, 1), (41, "s", False, 1))
    assert pairing.in_a_row == 4
    told(pairing, (50, "c", True, 1), (51, "c", False, 1), (52, "s", False, 2))
    assert pairing.in_a_row == 0


def test_failures_are_paired_with_the_closest_in_time() -> None:
    pairing = FailurePairing()
    told(pairing, (0, "s", True, 1), (9, "c", True, 1), (10, "s", False, 1))
    assert pairing.counts == PairCounts(candidate_only=1), "the one after was closer"
    told(pairing, (100, "s", True, 1), (101, "c", True, 1), (110, "s", False, 1))
    assert pairing.counts == PairCounts(candidate_only=1, both=1), "the one before was closer"


def test_nobody_is_waited_for_where_stable_gets_nothing() -> None:
    pairing = FailurePairing()
    told(pairing, (0, "s", False, 3), (1, "c", True, 2))
    pairing.part()
    pairing.solo = True
    told(pairing, (2, "c", True, 7))
    assert pairing.in_a_row == 7
    assert pairing.alone == RateCounts(7, 7)


def test_a_candidate_that_gets_everything_by_chance_is_not_let_off() -> None:
    pairing = FailurePairing()
    told(pairing, *((n, "c", True, 1) for n in range(65)))
    assert pairing.in_a_row == 64
    assert pairing.alone.total == 64
    told(pairing, (70, "s", False, 1), (71, "c", True, 1), (72, "s", False, 1))
    assert pairing.counts == PairCounts(candidate_only=1)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), max_size=300))
def test_each_request_is_in_one_pair_at_most(seen: list[tuple[bool, bool, int]]) -> None:
    pairing, at = FailurePairing(), 0
    for is_candidate, bad, later in seen:
        at += later
        pairing.request(is_candidate, bad, at)
    candidates = [bad for is_candidate, bad, _ in seen if is_candidate]
    stables = [bad for is_candidate, bad, _ in seen if not is_candidate]
    counts = pairing.counts
    assert counts.total + pairing.alone.total <= len(candidates)
    assert counts.total <= len(stables)
    assert counts.candidate_only + counts.both + pairing.alone.bad <= sum(candidates)
    assert counts.stable_only + counts.both <= sum(stables)


def test_a_candidate_without_partner_is_alone() -> None:
    pairing = Pairing()
    for n in range(164):
        pairing.candidate(n % 2 == 0)
    assert pairing.alone == RateCounts(50, 100)
    assert pairing.counts == PairCounts()


def test_only_batches_of_about_the_same_size_are_compared() -> None:
    pairing = LatencyPairing(1, 0.15)
    pairing.observe(False, 1, 100)
    pairing.observe(True, 8, 800)
    assert pairing.counts == PairCounts()
    pairing.observe(False, 5, 600)
    assert pairing.counts == PairCounts(candidate_only=1)
    pairing.observe(True, 1, 114)
    assert pairing.counts == PairCounts(candidate_only=1, stable_only=1)
    pairing.observe(False, 1, 100)
    pairing.observe(True, 1, 115)
    assert pairing.counts == PairCounts(1, 1), "exactly as much slower as allowed: a tie"


def test_what_comes_out_of_the_cold_is_compared_with_its_like() -> None:
    pairing = LatencyPairing(1, 0.15)
    ms = 1_000_000
    pairing.observe(False, 1, 100, 1 * ms)
    pairing.observe(True, 1, 300, 500 * ms)
    pairing.observe(True, 1, 200, 20 * ms)
    assert pairing.counts == PairCounts()
    pairing.observe(False, 1, 290, 200 * ms)
    pairing.observe(False, 1, 190, 10 * ms)
    assert pairing.counts == PairCounts(stable_only=2)
    rests = (0, 1, 2, 7, 8, 31, 32, 127, 128, 10**6)
    classes = []
    for pause in rests:
        one = LatencyPairing(1, 0.15)
        one.observe(False, 1, 100, pause * ms)
        classes.append(next(iter(one._blocks))[0])
    assert classes == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


@pytest.mark.parametrize("quantile", [0.5, 0.9])
@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "fine"), (1.3, "slow")])
def test_slower_executions_lose_their_pairs(quantile: float, slower: float, verdict: str) -> None:
    rng = random.Random(5)
    pairing = LatencyPairing(block_length(quantile), 0.15)
    for _ in range(6000):
        is_candidate = rng.random() < 0.5
        elapsed = 1e6 * rng.lognormvariate(0, 0.2) * (slower if is_candidate else 1.0)
        pairing.observe(is_candidate, 1, round(elapsed))
    counts = pairing.counts
    share = counts.candidate_only / (counts.candidate_only + counts.stable_only)
    assert (share < 0.42) if verdict == "fine" else (share > 0.58)


def test_what_waits_at_the_end_of_a_step_is_not_paired_in_the_next() -> None:
    latency, failures = LatencyPairing(1, 0.15), FailurePairing()
    latency.observe(False, 1, 100)
    failures.request(False, True, 0)
    latency.part()
    failures.part()
    latency.observe(True, 1, 300)
    failures.request(True, True, 1)
    assert latency.counts == failures.counts == PairCounts()


def test_block_lengths_stand_for_their_quantiles() -> None:
    assert [block_length(q) for q in (0.5, 0.9, 0.99)] == [1, 7, 69]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_quantiles_are_known_within_an_eighth(spans: list[int]) -> None:
    histogram = LogHistogram()
    for span in spans:
        histogram.add(span)
    for share in (0.5, 0.99):
        exact = sorted(spans)[max(0, -(-len(spans) * share // 1).__int__() - 1)]
        assert abs(histogram.quantile(share) - exact) <= exact / 8 + 1
    assert LogHistogram(dict(histogram.items())).count == len(spans)


def test_scores_are_counted_over_the_deciles_of_the_first_of_stable() -> None:
    import numpy as np

    rng = np.random.default_rng(3)
    bins = ScoreBins()
    bins.add(rng.random(100), is_candidate=True)
    bins.add(rng.random(500), is_candidate=False)
    assert bins.counts == ((0,) * 10, (0,) * 10), "what the bins are made of is not counted"
    for _ in range(500):
        bins.add(rng.random(20), is_candidate=False)
        bins.add(rng.random(20) * 1.5, is_candidate=True)
    stable, candidate = bins.counts
    assert sum(stable) == sum(candidate) == 10_000
    assert max(stable) < 1_400
    assert candidate[9] > 3_000
    bins.add(np.array([np.nan, np.inf]), is_candidate=True)
    assert sum(bins.counts[1]) == 10_000
    assert scores_of(np.array([[1.0, 3.0], [5.0, 4.0], [0.0, 9.0]]), [0, 2]).tolist() == [3.0, 9.0]


def test_scores_of_equal_versions_stay_equal_although_traffic_and_shares_change() -> None:
    """By day at a small share, by night at a large one: the mixtures of what each arm got are unlike."""
    import numpy as np

    rng, bins = np.random.default_rng(4), ScoreBins()
    bins.add(rng.random(600), is_candidate=False)
    for share, shift, requests in ((0.01, 0.0, 60_000), (0.5, 0.3, 20_000), (1.0, 0.6, 20_000)):
        bins.part()
        for _ in range(requests // 10):
            to_candidate = rng.random(10) < share
            values = rng.random(10) + shift
            bins.add(values[~to_candidate], is_candidate=False)
            bins.add(values[to_candidate], is_candidate=True)
    stable, candidate = bins.counts
    assert sum(stable) == sum(candidate) > 9_000
    assert distance(stable, candidate) < 0.03


# ---------------------------------------------------------------------- outcomes


def matching() -> OutcomeMatching:
    found = OutcomeMatching(most=1000)
    for n in range(100):
        found.answered(f"s{n}", is_candidate=False, label=(1,))
        found.answered(f"c{n}", is_candidate=True, label=(2,))
    return found


def test_good_and_bad_outcomes_are_paired() -> None:
    found = matching()
    for n in range(50):
        assert found.report(Outcome(f"s{n}", good=True))
        assert found.report(Outcome(f"c{n}", good=n % 2 == 0))
    assert found.counts == PairCounts(candidate_only=25, neither=25)
    assert not found.report(Outcome("s0", good=False)), "an outcome counts once"
    assert not found.report(Outcome("other", good=False))
    assert found.unmatched == 2


def test_numbers_lose_against_larger_numbers() -> None:
    found = matching()
    for n in range(20):
        found.report(Outcome(f"s{n}", value=10.0))
        found.report(Outcome(f"c{n}", value=9.0 if n < 15 else 11.0))
    assert found.counts == PairCounts(candidate_only=15, stable_only=5)


def test_a_true_label_judges_both_answers_to_one_request() -> None:
    found = matching()
    found.copied("s1", (2,))
    found.report(Outcome("s1", label=(1,)))
    assert found.counts == PairCounts(candidate_only=1)
    found.copied("s2", (1,))
    found.report(Outcome("s2", label=(1,)))
    assert found.counts == PairCounts(candidate_only=1, neither=1)
    found.report(Outcome("s3", label=(1,)))
    found.report(Outcome("c3", label=(1,)))
    assert found.counts == PairCounts(candidate_only=2, neither=1), "without a copy partners are found as usual"


def test_a_request_id_that_is_used_again_has_no_copy_yet() -> None:
    found = matching()
    found.copied("s1", (2,))
    found.answered("s1", is_candidate=False, label=(1,))
    found.report(Outcome("s1", label=(1,)))
    assert found.counts == PairCounts(), "it waits for a request of the other arm"


def test_what_is_remembered_is_bounded() -> None:
    found = OutcomeMatching(most=10)
    for n in range(100):
        found.answered(f"r{n}", is_candidate=True, label=None)
    assert len(found) == 10
    assert not found.report(Outcome("r5", good=True))
    assert found.report(Outcome("r95", good=True))
    assert not found.report(Outcome("r96", label=(1,)))
    assert found.without_label == 1


def test_outcomes_are_paired_with_those_of_requests_at_about_the_same_time() -> None:
    """Right by day, wrong by night, both alike; all outcomes come at the end, and stable gets nothing at last."""
    found, rng, truth = OutcomeMatching(), random.Random(5), []
    for n in range(60_000):
        share = 0.01 if n < 10_000 else 0.5 if n < 30_000 else 1.0
        found.answered(f"r{n}", is_candidate=rng.random() < share, label=None)
        truth.append(Outcome(f"r{n}", good=n < 20_000))
    rng.shuffle(truth)
    for outcome in truth:
        assert found.report(outcome)
    counts = found.counts
    assert counts.total > 3_000
    assert counts.total < 15_000, "what stable did not get is compared with nothing"
    assert abs(counts.candidate_only - counts.stable_only) < 100, counts
