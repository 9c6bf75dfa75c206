"""A seeded world in which releases are judged: traffic, faults and looks; run it to get the table of docs/releases.md.

    python -m tests.simulation.release_world --runs 1000

Every look hands `core.rollout.decide` what a collector would have counted by then, and does what it says. Looks come
after ever more requests (2 % more each), so that a run has hundreds of them: if peeking hurt, it would show here.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gateway.core.rollout import decide
from gateway.judgements import DecisionKind
from gateway.releases import Evidence, PairCounts, RateCounts, ReleaseStatus
from tests.support.releases import SECOND, plan, running, steps

BLOCKS = {5000: 1, 9000: 7}
_WEIGHTS = (0, 100, 500, 2500, 5000, 10_000)
_REQUESTS_A_SECOND = 200.0
_MOST_LOOKS = 20_000
Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true of the two versions. A fault is in the candidate from the first request."""

    name: str = "A/A"
    errors: tuple[float, float] = (0.002, 0.002)
    nans: float = 0.0
    slower: float = 1.0
    noise: float = 0.3
    flips: float = 0.0
    accuracy: tuple[float, float] | None = None
    scale: float = 1.0
    shadow: bool = True


WORLDS = (
    World(),
    World(name="A/A, outcomes", accuracy=(0.90, 0.90)),
    World(name="+30 % latency", slower=1.3),
    World(name="2 % errors", errors=(0.022, 0.002)),
    World(name="2-point accuracy loss", accuracy=(0.88, 0.90), flips=0.01),
    World(name="mis-scaled output", scale=1.5, flips=1.0),
    World(name="mis-scaled output, no copies", scale=1.5, flips=1.0, shadow=False),
    World(name="NaN in 0.5 % of rows", nans=0.005),
)


@dataclass(slots=True)
class Counts:
    """What was counted so far; pairs as [candidate only, stable only, both, neither]."""

    errors: Pairs = field(default_factory=lambda: np.zeros(4, np.int64))
    nans: Pairs = field(default_factory=lambda: np.zeros(4, np.int64))
    outcomes: Pairs = field(default_factory=lambda: np.zeros(4, np.int64))
    latency: dict[int, Pairs] = field(default_factory=lambda: {q: np.zeros(4, np.int64) for q in BLOCKS})
    disagreement: Pairs = field(default_factory=lambda: np.zeros(2, np.int64))
    scores: Pairs = field(default_factory=lambda: np.zeros((2, 10), np.int64))
    alone: Pairs = field(default_factory=lambda: np.zeros(2, np.int64))
    last: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((2, 0), np.bool_))
    in_a_row: int = 0
    candidate: int = 0
    copies: int = 0
    step: int = 0
    everything: float = 0.0

    def evidence(self, recent: tuple[RateCounts, RateCounts]) -> Evidence:
        return Evidence(
            errors=_pairs(self.errors), nans=_pairs(self.nans), outcomes=_pairs(self.outcomes),
            latency={quantile: _pairs(counts) for quantile, counts in self.latency.items()},
            disagreement=RateCounts(*map(int, self.disagreement)), alone=RateCounts(*map(int, self.alone)),
            scores={"y": (tuple(map(int, self.scores[0])), tuple(map(int, self.scores[1])))},
            consecutive_failures=self.in_a_row, recent=recent, candidate_samples=self.candidate,
            shadow_samples=self.copies, step_samples=self.step,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """How one release ended: `exposed` of all requests went to the candidate (`requests` of them) before that."""

    status: ReleaseStatus
    detail: str
    exposed: float
    requests: int
    looks: int


def run_release(world: World, seed: int) -> Run:
    """Returns how the release of `world` with this seed ends."""
    rng = np.random.default_rng([seed, sum(world.name.encode())])
    weights = _WEIGHTS if world.shadow else _WEIGHTS[1:]
    release = running(plan(steps=steps(*weights, hours=10_000), shadow_share=10_000 if world.shadow else 0))
    counts, now = Counts(), SECOND
    for look in range(_MOST_LOOKS):
        weight = release.plan.steps[release.progress.step].weight
        size = max(10, (counts.candidate + counts.copies) // 50)
        recent = _copies(world, rng, counts, size) if weight == 0 else _traffic(world, rng, counts, size, weight)
        passed = size / (weight / 10_000 if weight else 1.0)
        counts.everything += passed
        now += int(passed / _REQUESTS_A_SECOND * SECOND)
        decision = decide(release, counts.evidence(recent), now, intervals=False)
        if decision.to is None:
            continue
        if decision.kind is DecisionKind.ADVANCE:
            counts.step = 0
        release = replace(release, progress=decision.to)
        if decision.kind is not DecisionKind.ADVANCE:
            exposed = counts.candidate / counts.everything
            return Run(decision.to.status, decision.detail, exposed, counts.candidate, look + 1)
    return Run(release.progress.status, "no end", 1.0, counts.candidate, _MOST_LOOKS)


def _traffic(
    world: World, rng: np.random.Generator, counts: Counts, size: int, weight: int
) -> tuple[RateCounts, RateCounts]:
    failed = rng.random((2, size)) < np.array(world.errors)[:, None]
    paired = weight < 10_000
    counts.candidate += size
    counts.step += size
    _run_of_failures(counts, failed, paired)
    if paired:
        counts.errors += _pair_up(*failed)
        counts.nans += _pair_up(rng.random(size) < world.nans, np.zeros(size, bool))
        _latencies(world, rng, counts, size)
        counts.scores += np.stack([_scores(rng, size, scale) for scale in (1.0, world.scale)])
        if world.shadow:
            _compare(world, rng, counts, size)
        if world.accuracy is not None:
            wrong = rng.random((2, size)) >= np.array(world.accuracy)[:, None]
            counts.outcomes += _pair_up(*wrong)
    else:
        counts.alone += (int(failed[0].sum()), size)
    counts.last = np.concatenate([counts.last, failed], axis=1)[:, -50:]
    seen = counts.last.shape[1]
    bad = counts.last.sum(axis=1)
    return RateCounts(int(bad[0]), seen), RateCounts(int(bad[1]), seen) if paired else RateCounts()


def _copies(world: World, rng: np.random.Generator, counts: Counts, size: int) -> tuple[RateCounts, RateCounts]:
    _compare(world, rng, counts, size)
    counts.step += size
    return RateCounts(), RateCounts()


def _compare(world: World, rng: np.random.Generator, counts: Counts, size: int) -> None:
    # An answer with a NaN differs as well.
    bad = rng.binomial(size, min(1.0, world.flips + world.nans))
    counts.disagreement += (bad, size)
    counts.copies += size


def _latencies(world: World, rng: np.random.Generator, counts: Counts, size: int) -> None:
    for quantile, block in BLOCKS.items():
        pairs = size // block
        if pairs == 0:
            pairs = int(rng.random() < size / block)
        drawn = np.exp(world.noise * rng.standard_normal((2, pairs, block))).max(axis=2)
        slow = drawn[0] * world.slower / 1.15 > drawn[1]
        counts.latency[quantile] += (int(slow.sum()), int(pairs - slow.sum()), 0, 0)


def _scores(rng: np.random.Generator, size: int, scale: float) -> Pairs:
    # Deciles of a uniform score; whatever is scaled beyond the last bin stays in it.
    return np.bincount(np.minimum(rng.random(size) * scale * 10, 9.0).astype(np.int64), minlength=10)


def _pair_up(candidate: NDArray[np.bool_], stable: NDArray[np.bool_]) -> Pairs:
    both, one, other = int((candidate & stable).sum()), int(candidate.sum()), int(stable.sum())
    return np.array([one - both, other - both, both, len(candidate) - one - other + both], np.int64)


def _run_of_failures(counts: Counts, failed: NDArray[np.bool_], paired: bool) -> None:
    good = np.flatnonzero(~failed[0])
    last = failed[:, good[-1] + 1 :] if len(good) else failed
    alone = last[0] & ~last[1] if paired else last[0]
    counts.in_a_row = int(alone.sum()) + (0 if len(good) else counts.in_a_row)


def _pairs(counts: Pairs) -> PairCounts:
    return PairCounts(*map(int, counts))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    parsed = parser.parse_args()
    runs = parsed.runs
    print("| world | promoted | rolled back | neither | requests that saw it (median, p99) | share of all (median) |")
    print("|---|---:|---:|---:|---:|---:|")
    for world in (world for world in WORLDS if parsed.only in world.name):
        found = [run_release(world, seed) for seed in range(runs)]
        ends = Counter(run.status for run in found)
        back = [run for run in found if run.status is ReleaseStatus.ROLLED_BACK]
        back = back if len(back) > runs / 2 else found
        seen = np.array([run.requests for run in back])
        share = np.median([run.exposed for run in back])
        promoted, rolled = ends[ReleaseStatus.PROMOTED], ends[ReleaseStatus.ROLLED_BACK]
        print(
            f"| {world.name} | {promoted} | {rolled} | {runs - promoted - rolled} | "
            f"{np.median(seen):,.0f}, {np.quantile(seen, 0.99):,.0f} | {100 * share:.2f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
