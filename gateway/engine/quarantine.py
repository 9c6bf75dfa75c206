"""Versions that failed: why, on which replicas, and when they may be tried again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from gateway.core.reconciling import backoff
from gateway.messages import Instant, Nanos
from gateway.ports import Clock
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.manager")
_FIRST: Nanos = 1_000_000_000
_LONGEST: Nanos = 60_000_000_000


class _Failure:
    __slots__ = ("count", "guilty", "reason", "retry_at")

    def __init__(self) -> None:
        self.count = 0
        self.guilty = True
        self.reason = ""
        self.retry_at: dict[int, Instant] = {}


class Quarantine:
    """Owns the failures. A version's first failure bars it for a second, each further one twice as long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[ModelVersion, _Failure] = {}

    def put(self, version: ModelVersion, reason: str, replicas: Iterable[int], *, guilty: bool = True) -> None:
        """Notes a failure and bars the version from these replicas for a while.

        `guilty` says whether it was the version's fault, or only the replica's.
        """
        failure = self._failures.setdefault(version, _Failure())
        failure.count += 1
        failure.guilty = guilty
        pause = backoff(failure.count, _FIRST, _LONGEST)
        failure.retry_at |= dict.fromkeys(replicas, self._clock.now() + pause)
        if failure.reason != reason:
            _log.error("%s could not be loaded: %s", version, reason)
        failure.reason = reason

    def release(self, version: ModelVersion, replica: int) -> None:
        """The version works on that replica; when nothing else stands against it, it is forgotten."""
        failure = self._failures.get(version)
        if failure is not None:
            failure.retry_at.pop(replica, None)
            if not failure.retry_at:
                del self._failures[version]

    def forget(self, version: ModelVersion) -> None:
        self._failures.pop(version, None)

    def pardon(self, model_name: str) -> None:
        """Forgets the failures of all versions of a model."""
        for version in [version for version in self._failures if version.model_name == model_name]:
            del self._failures[version]

    def retry_at(self, version: ModelVersion) -> Mapping[int, Instant]:
        """Returns when each replica on which it failed may try again; empty if nothing stands against it.

        A failure that was not its fault is forgiven when its time is over.
        """
        failure = self._failures.get(version)
        if failure is None:
            return {}
        if failure.guilty:
            return failure.retry_at
        now = self._clock.now()
        return {replica: at for replica, at in failure.retry_at.items() if at > now}

    def next_retry(self) -> Instant | None:
        """Returns the next instant at which something that waits may be tried."""
        now = self._clock.now()
        instants = [at for failure in self._failures.values() for at in failure.retry_at.values() if at > now]
        return min(instants, default=None)

    def reasons(self) -> dict[ModelVersion, str]:
        return {version: failure.reason for version, failure in self._failures.items()}

    def versions(self) -> list[ModelVersion]:
        return list(self._failures)

    def models(self) -> set[str]:
        return {version.model_name for version in self._failures}
