"""Release nouns: what is tried against what, on whose traffic, under which criteria, and how far it has come.

Everything here is immutable and is what the registry keeps in `serving.json`; evidence is counts only, so that a
decision can be replayed. Instants here are wall-clock nanoseconds since the epoch, because they outlive a process.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.messages import Nanos
from gateway.routes import RouteRule, StickyKey

WallInstant = int
STABLE, CANDIDATE = "stable", "candidate"


class ReleaseKind(enum.Enum):
    """CANARY: steps towards the candidate. AB: fixed shares. SHADOW: compared on copies, never answers a caller."""

    CANARY = "canary"
    AB = "ab"
    SHADOW = "shadow"


class ReleaseStatus(enum.Enum):
    """RUNNING and PAUSED releases are in progress; PROMOTED ones may still be rolled back by late outcomes."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ENDED = "ended"


class SupersedePolicy(enum.Enum):
    """What happens to a new release while one of the same model is in progress."""

    REFUSE = "refuse"
    QUEUE = "queue"
    SUPERSEDE = "supersede"


@dataclass(frozen=True, slots=True)
class Arm:
    """One version that takes part. `weight` in basis points counts for A/B releases only."""

    name: str
    version: int
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One stage: `weight` basis points of the traffic (0: copies only), at most `max_time`.

    `approval` waits for a person before the stage after it.
    """

    weight: int
    max_time: Nanos
    approval: bool = False


@dataclass(frozen=True, slots=True)
class OutputRule:
    """What counts as equal for one output: label flips (top-1 of the last axis) or elements within tolerances.

    By cosine, rows are equal whose cosine is at least 1 - `absolute`.
    """

    output: str
    compare: str = "auto"  # auto | label | close | cosine | bytes
    absolute: float = 1e-3
    relative: float = 1e-2
    top_k: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a candidate must not do. A rate is a share (0 to 1); None leaves the criterion out.

    `alpha` bounds the chance of rolling back a candidate that is as good as stable, over all criteria and however often
    anybody looks; `power` is the chance with which a fault of the stated size is found before promotion. The share
    `tolerance` of a stated difference to stable (errors, NaN, outcomes) is tolerated: only more than that rolls back.
    """

    alpha: float = 0.01
    power: float = 0.99
    tolerance: float = 0.1
    error_rate: float | None = 0.02
    nan_rate: float | None = 0.005
    latency_increase: float | None = 0.15
    latency_quantiles: tuple[float, ...] = (0.5, 0.9)
    disagreement_rate: float | None = 0.02
    score_shift: float | None = 0.15
    outcome_loss: float | None = 0.02
    consecutive_failures: int | None = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """What was asked for; never changes while the release lives. `arms` never contains the stable version.

    `retry`: a version that was rolled back before may be tried again.
    """

    id: str
    model_name: str
    kind: ReleaseKind
    stable: int
    arms: tuple[Arm, ...]
    steps: tuple[Step, ...]
    salt: str
    rules: tuple[RouteRule, ...] = ()
    sticky: StickyKey = field(default_factory=StickyKey)
    criteria: Criteria = field(default_factory=Criteria)
    outputs: tuple[OutputRule, ...] = ()
    segment_header: str = ""
    shadow_share: int = 10_000
    capture_inputs: bool = False
    judged: bool = True
    retry: bool = False
    on_newer: SupersedePolicy = SupersedePolicy.REFUSE
    watch_after: Nanos = 0
    actor: str = ""
    reason: str = ""
    created_at: WallInstant = 0

    @property
    def candidate(self) -> int:
        """The version that a canary or shadow release tries (of an A/B release: the first arm's)."""
        return self.arms[0].version


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseProgress:
    """How far it has come. `decision` counts the decisions taken; `detail` says why the last one was.

    `awaiting`: the step's evidence is complete and a person has to approve. A paused release keeps its weight and its
    assignment; it is not advanced, but what it shows may still roll it back. `evidence` is the sha256 of the last
    decision's bundle, so that the bundles of a release form a chain.
    """

    status: ReleaseStatus
    step: int = 0
    step_started_at: WallInstant = 0
    decision: int = 0
    awaiting: bool = False
    detail: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A plan and how far it has come: what `serving.json` says under `release`."""

    plan: ReleasePlan
    progress: ReleaseProgress


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Outcomes of pairs (one observation of the candidate, one of stable): who of the two was bad.

    Common causes make both bad and so count against nobody.
    """

    candidate_only: int = 0
    stable_only: int = 0
    both: int = 0
    neither: int = 0

    @property
    def total(self) -> int:
        return self.candidate_only + self.stable_only + self.both + self.neither


@dataclass(frozen=True, slots=True)
class RateCounts:
    """How many of `total` observations were `bad`."""

    bad: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a decision is made of: counts since the release began, never floats that depend on their order.

    `latency` has pairs by quantile (basis points of a probability, 5000 = median): `candidate_only` where the
    candidate's time divided by (1 + allowed increase) was longer than stable's, `stable_only` where it was shorter;
    ties are left out. `alone` are candidate requests that found no partner (stable gets nothing at 100 %). `scores`
    holds histograms (stable, candidate) over the same fixed bins by output, one value a request.
    `consecutive_failures` are the candidate's last failures in a row whose partner was well or missing: a good answer
    resets it, a pair that failed together leaves it. `recent` are (candidate, stable) failures among the last
    observations of each. `step_samples` are candidate requests of the current step (copies, where its weight is 0).
    """

    errors: PairCounts = PairCounts()
    alone: RateCounts = RateCounts()
    nans: PairCounts = PairCounts()
    latency: Mapping[int, PairCounts] = field(default_factory=dict)
    disagreement: RateCounts = RateCounts()
    outcomes: PairCounts = PairCounts()
    scores: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    consecutive_failures: int = 0
    recent: tuple[RateCounts, RateCounts] = (RateCounts(), RateCounts())
    candidate_samples: int = 0
    shadow_samples: int = 0
    step_samples: int = 0
    outcome_samples: int = 0
