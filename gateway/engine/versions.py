"""The versions that this gateway has to do with, and their states.

Invariants: a version is READY only if it is ready on some replica; one that drains never becomes READY again (a fresh
queue takes its place); whoever is still waited for by callers is not forgotten.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from gateway.core.reconciling import VersionStatus
from gateway.engine.quarantine import Quarantine
from gateway.engine.replicas import Replica
from gateway.engine.served import ServedVersion
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Instant, Nanos
from gateway.ports import Clock, Observer
from gateway.versions import ModelVersion, VersionState


class VersionTable:
    """Owns the served versions, those that were replaced but not drained yet, and the deadlines of drains."""

    def __init__(self, clock: Clock, observer: Observer, drain_limit: Nanos) -> None:
        self._clock = clock
        self._observer = observer
        self._drain_limit = drain_limit
        self._served: dict[str, dict[int, ServedVersion]] = {}
        self._replaced: list[ServedVersion] = []
        self._drain_until: dict[ModelVersion, Instant] = {}

    def __contains__(self, version: ModelVersion) -> bool:
        return self.get(version) is not None

    def get(self, version: ModelVersion) -> ServedVersion | None:
        return self._of(version.model_name).get(version.number)

    def models(self) -> set[str]:
        return set(self._served)

    def ready_of(self, name: str) -> list[ServedVersion]:
        """Returns the versions of a model that take requests."""
        return [served for served in self._of(name).values() if served.state is VersionState.READY]

    def draining(self) -> bool:
        """Whether anything waits for its callers to be answered."""
        return bool(self._drain_until)

    def leases(self, version: ModelVersion) -> int:
        """Requests that hold the version: accepted and not answered yet."""
        return sum(len(served.scheduler.pending) for served in self._queues(version))

    def statuses(self, name: str, replicas: Sequence[Replica], quarantine: Quarantine) -> dict[int, VersionStatus]:
        """Returns every version of a model as it is."""
        now = self._clock.now()
        found = {}
        known = [served.version for served in self._of(name).values()]
        failed = [version for version in quarantine.versions() if version.model_name == name]
        for version in dict.fromkeys((*known, *failed)):
            served = self.get(version)
            found[version.number] = VersionStatus(
                served.state if served is not None else VersionState.FAILED,
                frozenset(index for index, replica in enumerate(replicas) if version in replica.ready_versions),
                self.leases(version),
                quarantine.retry_at(version),
                self._drain_until.get(version, now + 1) <= now,
            )
        return found

    def published(self, names: Iterable[str]) -> dict[str, dict[int, ServedVersion]]:
        """Returns the versions for the data plane: every model of `names`, and every other that has versions left."""
        found: dict[str, dict[int, ServedVersion]] = {name: {} for name in names}
        found |= {name: dict(versions) for name, versions in self._served.items()}
        return found

    # ------------------------------------------------------------------ changes

    def ready(self, served: ServedVersion) -> None:
        """Takes a version that was proved; another queue of the same version drains beside it."""
        version = served.version
        old = self.get(version)
        if old is not None and old is not served:
            old.scheduler.drain()
            self._replaced.append(old)
        self._replaced = [other for other in self._replaced if other.scheduler.pending]
        self._served.setdefault(version.model_name, {})[version.number] = served
        self._drain_until.pop(version, None)
        self._set(served, VersionState.READY, "")

    def drain(self, served: ServedVersion) -> None:
        """Closes a version's door; what is inside is still answered."""
        if served.state is not VersionState.DRAINING:
            self._drain_until[served.version] = self._clock.now() + self._drain_limit
            self._set(served, VersionState.DRAINING, "")
            served.scheduler.drain()

    def failed(self, version: ModelVersion, reason: str) -> None:
        """A load came to nothing. A version that serves elsewhere is none the worse."""
        served = self.get(version)
        if served is None:
            self._observer.version_state(version, VersionState.FAILED, reason)
        elif served.state is not VersionState.DRAINING:
            self._set(served, served.state, reason)

    def check_states(self, replicas: Sequence[Replica], mending: Container[ModelVersion]) -> None:
        """A version that is ready nowhere is not READY, whoever it was that lost it.

        One that is only just being mended keeps its state: its callers wait a moment and are then answered.
        """
        for versions in self._served.values():
            for served in versions.values():
                version = served.version
                anywhere = version in mending or any(version in replica.ready_versions for replica in replicas)
                if served.state is VersionState.READY and not anywhere:
                    detail = served.detail or "its backend has lost it; loading it again"
                    self._set(served, VersionState.LOADING, detail)

    def give_up(self, version: ModelVersion) -> None:
        """Fails whoever still waits for the version: its time is over, or nothing can answer any more."""
        error = GatewayError(ErrorCode.MODEL_NOT_READY, f"{version} was withdrawn before it could answer")
        for served in self._queues(version):
            served.scheduler.drain()
            served.scheduler.fail_all(error)

    def forget(self, version: ModelVersion) -> None:
        """The version is gone."""
        served = self.get(version)
        if served is not None:
            served.scheduler.forget()
            del self._served[version.model_name][version.number]
            if not self._served[version.model_name]:
                del self._served[version.model_name]
        self._drain_until.pop(version, None)
        self._replaced = [served for served in self._replaced if served.version != version]
        self._observer.version_state(version, VersionState.UNLOADED, "" if served is not None else "no longer wanted")

    def _of(self, name: str) -> Mapping[int, ServedVersion]:
        """Returns a model's versions: nothing here looks at all models to learn of one."""
        return self._served.get(name, {})

    def _queues(self, version: ModelVersion) -> list[ServedVersion]:
        queues = [served for served in self._replaced if served.version == version]
        current = self.get(version)
        return queues if current is None else [*queues, current]

    def _set(self, served: ServedVersion, state: VersionState, detail: str) -> None:
        if served.state is not state or served.detail != detail:
            served.state, served.detail = state, detail
            self._observer.version_state(served.version, state, detail)
