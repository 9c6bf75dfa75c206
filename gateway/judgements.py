"""Judgement nouns: what was decided about a release, on which counts, and everything needed to decide it again.

An evidence bundle is the record of one decision: counts, criteria, versions and configuration. Replaying it means to
call `core.rollout.decide` with what it holds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.releases import Evidence, Release, ReleaseProgress, WallInstant


class DecisionKind(enum.Enum):
    """HOLD: nothing changes. FINISH: a release without promotion has answered its question, or its watch is over.

    AWAIT: the step is complete and a person has to approve. INCONCLUSIVE: its time is over without enough evidence.
    START, RESUME and SUPERSEDE are people's alone.
    """

    START = "start"
    HOLD = "hold"
    AWAIT = "await"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    PAUSE = "pause"
    INCONCLUSIVE = "inconclusive"
    RESUME = "resume"
    SUPERSEDE = "supersede"
    FINISH = "finish"


class Verdict(enum.Enum):
    """FAILED: proved worse. ENOUGH: proved not worse than allowed. OPEN: neither yet. NO_DATA: nothing was seen."""

    FAILED = "failed"
    ENOUGH = "enough"
    OPEN = "open"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionResult:
    """One line of the criterion table.

    `log_against` is the natural logarithm of the e-value against "the candidate is no worse", FAILED once it reaches
    `fail_at`; `log_for` that against "it is worse by the stated size", ENOUGH once it reaches `enough_at`. `estimate`
    with `low` and `high` is what was seen (interval valid at every look) in the unit of `limit`, the stated size, and
    of `tolerated`, beyond which it fails. `blocks`: the step waits for this one. `candidate_bad` and `stable_bad` count
    what speaks against the one and against the other.
    """

    name: str
    verdict: Verdict
    samples: int
    candidate_bad: int = 0
    stable_bad: int = 0
    log_against: float = 0.0
    fail_at: float = 0.0
    log_for: float = 0.0
    enough_at: float = 0.0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    tolerated: float | None = None
    blocks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from the evidence. `to` is the progress to write down; None if nothing changes."""

    kind: DecisionKind
    detail: str
    criteria: tuple[CriterionResult, ...] = ()
    to: ReleaseProgress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCounts:
    """What one arm got and did since the release began: latencies in nanoseconds (0: not measured)."""

    name: str
    version: int
    requests: int = 0
    errors: int = 0
    median: int = 0
    p99: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceBundle:
    """The record of one decision about `release` (as it was before). Instants are wall-clock nanoseconds.

    `at` is the very instant that it was decided for. `actor` is the person who decided, empty where a gateway did.

    `digests` has the sha256 of each version's manifest; `disagreements` what shadow comparison found by output and by
    segment; `worst` the largest ones with their request ids; `configuration` what else bore on it (free form, JSON).
    """

    release: Release
    decision: Decision
    evidence: Evidence = field(default_factory=Evidence)
    at: WallInstant = 0
    actor: str = ""
    gateway: str = ""
    arms: tuple[ArmCounts, ...] = ()
    digests: Mapping[int, str] = field(default_factory=dict)
    disagreements: Mapping[str, Any] = field(default_factory=dict)
    worst: tuple[Mapping[str, Any], ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
