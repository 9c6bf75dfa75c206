"""The routes of all models: owns the route table and what is being released.

Invariants: what a route names beside the stable version is ready; while the gateway starts, a route that still waits
for an arm says so, so that nobody calls the gateway ready before it routes as it did before it was stopped; the
generation grows with every table that differs from the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.core.reconciling import ModelPicture, takers, target
from gateway.core.release_routes import in_progress, on_trial, route_of, wanted_versions, weight_of
from gateway.releases import CANDIDATE, Release, ReleaseStatus
from gateway.routes import BUCKETS, Route, RouteTable


class Routes:
    """`table` is the one in force; `releases` says what is being released, by model, and may be set later."""

    def __init__(self) -> None:
        self.table = RouteTable(0, {}, complete=False)
        self.starting = True
        self.releases: Callable[[], Mapping[str, Release]] = dict

    def take(self, table: RouteTable, *, again: bool) -> bool:
        """Takes `table` (but for its generation) if it differs from the one in force, or `again`; returns if so."""
        if replace(table, generation=self.table.generation) == self.table and not again:
            return False
        self.table = replace(table, generation=self.table.generation + 1)
        return True

    def stable(self, name: str) -> int | None:
        """Returns the version that gets what no other one gets, None if the model has no route."""
        route = self.table.routes.get(name)
        return route.stable if route is not None else None

    def on_trial(self, name: str) -> frozenset[int]:
        """Returns the versions of the model that get no more than their share of a release."""
        return on_trial(self.releases().get(name))

    def wanted(self, name: str, desired: tuple[int, ...]) -> tuple[int, ...]:
        """Returns what should be loaded, the stable version first; `desired` is what the registry says."""
        return wanted_versions(desired, self.releases().get(name))

    def build(self, picture: ModelPicture) -> Route | None:
        """Returns the route that follows, None for a withdrawn model."""
        stable = target(picture)
        if stable is None:
            return None
        release = self.releases().get(picture.name)
        if release is not None and in_progress(release):
            current = self.table.routes.get(picture.name)
            mine = current is not None and current.release_id == release.plan.id
            sharing = {number for number, _ in current.targets} if mine and current is not None else set()
            ready = takers(picture, sharing)
            route = route_of(release, stable, ready)
            return replace(route, settling=True) if self.starting and _waits(picture, release, ready) else route
        promoted = release is not None and release.progress.status is ReleaseStatus.PROMOTED
        if release is not None and promoted and stable == release.plan.candidate:
            return Route(picture.name, ((stable, BUCKETS),), arms=(CANDIDATE,), release_id=release.plan.id)
        return Route(picture.name, ((stable, BUCKETS),))


def _waits(picture: ModelPicture, release: Release, ready: frozenset[int]) -> bool:
    """Whether an arm that should get something is still on its way (one that failed is not waited for)."""
    for arm in release.plan.arms:
        if weight_of(release, arm) and arm.version not in ready | picture.barred:
            status = picture.versions.get(arm.version)
            if status is None or not status.retry_at:
                return True
    return False
