"""Reads the engine for the admin plane, through its public properties only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.admin.view import GatewayView, ProfilePoint, ReplicaView, VersionView
from gateway.telemetry.metrics import Metrics
from gateway.versions import ModelVersion, VersionState

if TYPE_CHECKING:
    from gateway.core.cost_profile import CostProfile
    from gateway.engine.manager import VersionManager
    from gateway.engine.replicas import ReplicaSet
    from gateway.engine.served import ServedVersion
    from gateway.engine.service import InferService

_PROFILE_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class EngineView:
    """An `AdminView` of a running engine. `notes` adds sentences that only the composition root knows."""

    def __init__(
        self,
        service: InferService,
        manager: VersionManager,
        replicas: ReplicaSet,
        metrics: Metrics,
        notes: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._service = service
        self._manager = manager
        self._replicas = replicas
        self._metrics = metrics
        self._notes = notes

    def ready(self) -> bool:
        """See `AdminView`."""
        return self._service.server_ready()

    def look(self) -> GatewayView:
        """See `AdminView`."""
        service = self._service
        notes = list(self._notes())
        if self._manager.source_error is not None:
            notes.append(f"registry: {self._manager.source_error}")
        return GatewayView(
            ready=service.server_ready(),
            closing=service.closing,
            generation=service.table.generation,
            requests_in_flight=service.in_flight,
            versions=tuple(self._versions()),
            replicas=tuple(
                ReplicaView(
                    name=replica.name,
                    available=replica.backend.available,
                    versions=tuple(sorted(replica.ready_versions)),
                    outstanding_rows=replica.outstanding_rows(),
                )
                for replica in self._replicas.replicas
            ),
            notes=tuple(notes),
        )

    def _versions(self) -> list[VersionView]:
        served = {one.version: one for one in self._service.all_versions()}
        failures = self._manager.failures()
        wanted = {ModelVersion(name, n) for name, numbers in self._manager.desired.items() for n in numbers}
        found = []
        for version in sorted({*served, *failures, *wanted}):
            if version in served:
                found.append(self._served(served[version], failures.get(version, "")))
            elif version in failures:
                found.append(VersionView(version=version, state=VersionState.FAILED, detail=failures[version]))
            else:
                state, detail = self._metrics.states.get(version, (VersionState.NEW, ""))
                found.append(VersionView(version=version, state=state, detail=detail))
        return found

    def _served(self, served: ServedVersion, failure: str) -> VersionView:
        scheduler, metadata = served.scheduler, served.metadata
        route = self._service.table.routes.get(served.version.model_name)
        return VersionView(
            version=served.version,
            state=served.state,
            detail=served.detail or failure,
            weight=sum(weight for number, weight in route.targets if number == served.version.number) if route else 0,
            requests_in_flight=len(scheduler.pending),
            batches_in_flight=len(scheduler.in_flight),
            queued_rows=scheduler.batcher.queued_rows,
            queued_bytes=scheduler.batcher.queued_bytes,
            max_batch_size=metadata.max_batch_size,
            instances=metadata.instance_count,
            unbatchable_reason=metadata.unbatchable_reason,
            profile=_profile(scheduler.profile, metadata.max_batch_size),
            inputs=served.watch.drift() if served.watch is not None else (),
        )


def _profile(profile: CostProfile, max_batch_size: int) -> tuple[ProfilePoint, ...]:
    points = []
    for rows in _PROFILE_ROWS:
        if rows > max(1, max_batch_size):
            break
        mean, high = profile.mean(rows), profile.high(rows)
        if mean is not None and high is not None:
            points.append(ProfilePoint(rows=rows, mean=mean, high=high))
    return tuple(points)
