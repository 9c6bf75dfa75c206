"""Releases built for tests."""

from __future__ import annotations

from typing import Any

from gateway.releases import (
    CANDIDATE,
    Arm,
    Release,
    ReleaseKind,
    ReleasePlan,
    ReleaseProgress,
    ReleaseStatus,
    Step,
)

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
WEIGHTS = (0, 100, 500, 2500, 5000, 10_000)


def plan(model: str = "m", stable: int = 1, candidate: int = 2, **changes: Any) -> ReleasePlan:
    """Returns a canary through the usual steps, an hour each at most."""
    given: dict[str, Any] = {
        "id": "r1",
        "model_name": model,
        "kind": ReleaseKind.CANARY,
        "stable": stable,
        "arms": (Arm(CANDIDATE, candidate),),
        "steps": steps(*WEIGHTS),
        "salt": "salt",
        "actor": "ann",
        "created_at": SECOND,
    }
    return ReleasePlan(**(given | changes))


def steps(*weights: int, approval: bool = False, hours: int = 1) -> tuple[Step, ...]:
    return tuple(Step(weight, hours * HOUR, approval) for weight in weights)


def running(of: ReleasePlan, step: int = 0, **changes: Any) -> Release:
    """Returns the release in progress on `step`, which began at second 1."""
    progress: dict[str, Any] = {"status": ReleaseStatus.RUNNING, "step": step, "step_started_at": SECOND}
    return Release(of, ReleaseProgress(**(progress | changes)))
