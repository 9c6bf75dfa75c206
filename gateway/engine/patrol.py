"""Goes round the replicas: do they still have what they are thought to have, and nothing else of ours?

Invariants: a replica that does not answer has lost nothing by that; a version is unloaded as an orphan only if it
carries our mark, nobody here has to do with it, and that was so for a while: another gateway on the same Triton may
have seen a newer state of the registry.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from gateway.engine.replicas import Replica, ReplicaSet
from gateway.errors import GatewayError
from gateway.messages import Instant, Nanos
from gateway.ports import Clock
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.patrol")


class Keeper(Protocol):
    """Whoever keeps the versions."""

    def accounts_for(self, version: ModelVersion) -> bool: ...

    def version_lost(self, version: ModelVersion, replica: Replica) -> None: ...


class Patrol:
    """Owns the rounds. `hurry` asks for one at once."""

    def __init__(
        self,
        keeper: Keeper,
        replicas: ReplicaSet,
        clock: Clock,
        seconds: float,
        orphan_age: Nanos,
    ) -> None:
        self._keeper = keeper
        self._replicas = replicas
        self._clock = clock
        self._seconds = seconds
        self._orphan_age = orphan_age
        self._hurry = asyncio.Event()
        self._orphans: dict[tuple[str, ModelVersion], Instant] = {}

    def hurry(self) -> None:
        self._hurry.set()

    async def run(self) -> None:
        """Goes round until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            await self.round()

    async def round(self) -> None:
        """Visits every replica that can be spoken to; never raises."""
        for replica in self._replicas.replicas:
            if replica.backend.available:
                try:
                    await self._confirm(replica)
                    await self._find_orphans(replica)
                except GatewayError:
                    continue  # it went away; the manager hears of that by itself
                except Exception:
                    _log.exception("visiting %s", replica.name)

    async def _confirm(self, replica: Replica) -> None:
        for version in list(replica.ready_versions):
            losses = replica.losses
            if await replica.control.is_ready(version) is False and replica.losses == losses:
                self._keeper.version_lost(version, replica)

    async def _find_orphans(self, replica: Replica) -> None:
        unknown = [version for version in await replica.control.loaded() if not self._keeper.accounts_for(version)]
        now = self._clock.now()
        seen = {(replica.name, version): self._orphans.get((replica.name, version), now) for version in unknown}
        self._orphans = {key: at for key, at in self._orphans.items() if key[0] != replica.name} | seen
        for version in unknown:
            if now - seen[replica.name, version] < self._orphan_age:
                continue
            async with replica.single_file:
                if not self._keeper.accounts_for(version):
                    _log.warning("%s has %s, which nobody wants; unloading it", replica.name, version)
                    await replica.control.unload(version)
