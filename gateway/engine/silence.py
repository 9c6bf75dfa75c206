"""Replicas out of reach: after a while they have lost what they had, because nobody can tell otherwise."""

from __future__ import annotations

import logging

from gateway.engine.replicas import ReplicaSet
from gateway.messages import Instant, Nanos
from gateway.ports import Clock

_log = logging.getLogger("sluice.manager")
_UNREACHABLE_AFTER: Nanos = 1_000_000_000


class Silence:
    """Owns since when each replica has been silent."""

    def __init__(self, replicas: ReplicaSet, clock: Clock) -> None:
        self._replicas = replicas
        self._clock = clock
        self._since: dict[str, Instant] = {}

    @property
    def any(self) -> bool:
        return bool(self._since)

    def notice(self) -> None:
        """Looks once; to be called several times a second while there is `any`."""
        now = self._clock.now()
        for replica in self._replicas.replicas:
            if replica.backend.available:
                self._since.pop(replica.name, None)
            elif now - self._since.setdefault(replica.name, now) >= _UNREACHABLE_AFTER and replica.ready_versions:
                _log.error("%s cannot be reached", replica.name)
                replica.lose()
