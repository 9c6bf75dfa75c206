"""What a release means for a model's route and for what must be loaded.

Pure: the release (as the registry has it, or as this gateway has decided and not yet written down), which version is
the stable one, and what is ready, give the route. Invariants: an arm gets its share only while it is ready and the
version it is tried against is the one that serves, otherwise the stable version holds its place; whoever is on trial
never gets more than its share, not even when nothing else is ready; a release that is over routes nothing.
"""

from __future__ import annotations

from collections.abc import Container

from gateway.releases import STABLE, Arm, Release, ReleaseKind, ReleaseStatus
from gateway.routes import BUCKETS, DEFAULT_STICKY, Route

_IN_PROGRESS = frozenset({ReleaseStatus.RUNNING, ReleaseStatus.PAUSED})


def in_progress(release: Release | None) -> bool:
    """Whether the release routes requests or copies them: it runs or is paused."""
    return release is not None and release.progress.status in _IN_PROGRESS


def on_trial(release: Release | None) -> frozenset[int]:
    """Returns the versions that get no more than their share."""
    if release is None or release.progress.status is ReleaseStatus.PROMOTED:
        return frozenset()
    return frozenset(arm.version for arm in release.plan.arms)


def weight_of(release: Release, arm: Arm) -> int:
    """Returns the share (basis points) that an arm should have now."""
    plan, progress = release.plan, release.progress
    if not in_progress(release) or plan.kind is ReleaseKind.SHADOW:
        return 0
    if plan.kind is ReleaseKind.AB:
        return arm.weight
    if arm is not plan.arms[0] or not plan.steps:
        return 0
    return plan.steps[min(progress.step, len(plan.steps) - 1)].weight


def route_of(release: Release, stable: int, ready: Container[int]) -> Route:
    """Returns the route of a release in progress; `stable` is the version that gets what no arm gets."""
    plan = release.plan
    comparable = stable == plan.stable
    targets: list[tuple[int, int]] = []
    arms: list[str] = []
    left = BUCKETS
    for arm in plan.arms:
        weight = min(weight_of(release, arm), left)
        left -= weight
        if weight:
            takes = comparable and arm.version in ready
            targets.append((arm.version if takes else stable, weight))
            arms.append(arm.name if takes else STABLE)
    if all(number == stable for number, _ in targets):
        targets, arms, left = [], [], BUCKETS
    return Route(
        plan.model_name,
        (*targets, (stable, left)),
        plan.salt,
        plan.rules if comparable else (),
        DEFAULT_STICKY if plan.sticky == DEFAULT_STICKY else plan.sticky,
        (*arms, STABLE),
        plan.id,
    )


def wanted_versions(desired: tuple[int, ...], release: Release | None) -> tuple[int, ...]:
    """Returns what should be loaded, the stable version first, given what this gateway knows of the release.

    `desired` is what the registry said; a rollback that was decided here and is not written down yet goes before it.
    """
    if release is None or release.progress.status is not ReleaseStatus.ROLLED_BACK or not desired:
        return desired
    arms = on_trial(release)
    if desired[0] in arms:
        # It had been promoted: what it had replaced is what serves again.
        return tuple(dict.fromkeys((release.plan.stable, *(n for n in desired if n not in arms))))
    return tuple(number for number in desired if number not in arms)
