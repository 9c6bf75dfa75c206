"""What the admin plane reads from a real engine."""

from __future__ import annotations

from gateway.admin.engine_view import EngineView
from gateway.telemetry.metrics import Metrics
from gateway.versions import ModelVersion, VersionState
from tests.support.engine import World


class Manager:
    """The public reading side of a version manager."""

    def __init__(self) -> None:
        self.source_error: str | None = None
        self.failed: dict[ModelVersion, str] = {}
        self.desired: dict[str, tuple[int, ...]] = {"m": (1,)}

    def failures(self) -> dict[ModelVersion, str]:
        return self.failed


def view_of(world: World, manager: Manager, metrics: Metrics) -> EngineView:
    return EngineView(world.service, manager, world.replicas, metrics, lambda: ["a note"])  # type: ignore[arg-type]


def test_served_failed_and_coming_versions() -> None:
    world, manager = World(), Manager()
    metrics = Metrics(world.clock.now, (1000,))
    manager.desired = {"m": (1, 2), "n": (1,), "o": (3,)}
    manager.failed = {ModelVersion("m", 2): "no such file"}
    manager.source_error = "gone"
    metrics.version_state(ModelVersion("n", 1), VersionState.LOADING, "embedded")
    engine = view_of(world, manager, metrics)
    view = engine.look()
    assert {str(one.version): (one.state, one.detail) for one in view.versions} == {
        "m/1": (VersionState.READY, ""),
        "m/2": (VersionState.FAILED, "no such file"),
        "n/1": (VersionState.LOADING, "embedded"),
        "o/3": (VersionState.NEW, ""),
    }
    assert [one.weight for one in view.versions] == [10_000, 0, 0, 0]
    assert view.notes == ("a note", "registry: gone")
    assert view.generation == 1
    assert engine.ready() is view.ready is True
    world.served.state = VersionState.DRAINING
    assert engine.ready() is False


def test_queues_replicas_and_the_learned_profile() -> None:
    world, manager = World(slots=1), Manager()
    for rows in (1, 2, 8):
        world.scheduler.profile.observe(rows, rows * 1_000_000)
    engine = view_of(world, manager, Metrics(world.clock.now, (1000,)))
    world.ask((1.0, 2.0))
    world.clock.settle()  # takes the only slot
    world.ask((1.0, 2.0), (3.0, 4.0))
    world.clock.settle()
    view = engine.look()
    (version,) = view.versions
    assert view.requests_in_flight == version.requests_in_flight == 2
    assert version.batches_in_flight == 1
    assert version.queued_rows == 2
    assert version.queued_bytes == 16
    assert version.max_batch_size == 8
    (replica,) = view.replicas
    assert (replica.name, replica.available, replica.versions) == ("r0", True, (ModelVersion("m", 1),))
    assert replica.outstanding_rows == 1
    assert [point.rows for point in version.profile] == [1, 2, 4, 8]
    assert [point.mean for point in version.profile][::3] == [1_000_000, 8_000_000]
    assert all(point.high >= point.mean for point in version.profile)
