"""The actions that `core.reconciling` decides on, performed: load, make room, drain, unload.

Invariants: whatever fails before a version is ready on a replica changes nothing but the quarantine; one load or
unload on a replica at a time; nobody's request is failed but by an unload whose time to wait is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Protocol

from gateway.core.reconciling import Action, ActionKind
from gateway.engine.bringup import BringUp, Predecessor, Unfit, Unread
from gateway.engine.quarantine import Quarantine
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.succession import Succession
from gateway.engine.versions import VersionTable
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.manager")
_LOOK_S = 0.05
_EVICT_LOOKS = 200


class Scene(Protocol):
    """What actions must know of the rest at the moment when they act, which is later than the decision."""

    def routed(self, name: str) -> int | None:
        """Returns the version that gets the model's traffic."""
        ...

    def still_wanted(self, version: ModelVersion) -> bool: ...

    def stable(self, version: ModelVersion) -> bool:
        """Whether the version is the one that should get the traffic, or a share of it."""
        ...

    def objection(self, version: ModelVersion, metadata: ModelMetadata) -> str:
        """Returns why that must not be; empty if it may."""
        ...

    def last_good(self, name: str) -> int | None:
        """Returns the version that was the last to get the model's traffic."""
        ...

    def publish(self) -> None: ...


class Actions:
    """Performs one action at a time for each model; the caller sees to that. `broken` are copies that died."""

    def __init__(
        self,
        scene: Scene,
        replicas: ReplicaSet,
        versions: VersionTable,
        quarantine: Quarantine,
        bring_up: BringUp,
        succession: Succession,
        pause: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        self._scene = scene
        self._replicas = replicas.replicas
        self._versions = versions
        self._quarantine = quarantine
        self._bring_up = bring_up
        self._succession = succession
        self._pause = pause
        self.broken: set[tuple[ModelVersion, str]] = set()

    async def perform(self, action: Action) -> None:
        """Performs `action`; never raises but when cancelled."""
        version = action.version
        with ExitStack() as stack:
            if action.kind is not ActionKind.DRAIN:  # which changes routes alone
                for replica in self._replicas:
                    stack.enter_context(replica.control.changing())
            await self._perform(action, version)

    async def _perform(self, action: Action, version: ModelVersion) -> None:
        try:
            if action.kind is ActionKind.LOAD:
                await self._load(version, self._replicas[action.replica], action.replica)
            elif action.incoming is not None:
                await self._make_room(action, ModelVersion(version.model_name, action.incoming))
            elif action.kind is ActionKind.DRAIN:
                self._drain(version)
            else:
                await self._unload(version)
        except Exception:
            _log.exception("%s %s", action.kind.value, version)
            self._quarantine.put(version, "internal error", range(len(self._replicas)))

    async def _load(self, version: ModelVersion, replica: Replica, index: int) -> None:
        losses = replica.losses
        broken = (version, replica.name) in self.broken
        try:
            self._bring_up.begins(version, replica, self._versions.get(version))
            record = await self._bring_up.vouch(version)
            await self._succession.recall(self._last_good(version), self._bring_up.vouch)
            async with replica.single_file:
                if not self._scene.still_wanted(version):
                    if version not in self._versions:
                        self._versions.forget(version)
                    return
                served = await self._bring_up.bring(
                    version, replica, self._versions.get(version), self._predecessor(version), record, fresh=broken
                )
            if replica.losses != losses:
                raise GatewayError(ErrorCode.BACKEND_UNREACHABLE, f"{replica.name} went away while it was being loaded")
        except GatewayError as error:
            everywhere = range(len(self._replicas))
            where = everywhere if isinstance(error, Unfit | Unread) else (index,)
            guilty = error.code is not ErrorCode.BACKEND_UNREACHABLE
            self._quarantine.put(version, error.message, where, guilty=guilty)
            self._versions.failed(version, error.message)
            if replica.losses == losses and guilty:
                async with replica.single_file:
                    await self._take_off(version, replica)
            return
        self.broken.discard((version, replica.name))
        self._quarantine.release(version, index)
        replica.ready_versions.add(version)
        self._versions.ready(served)
        self._scene.publish()
        served.scheduler.wake()

    def _last_good(self, version: ModelVersion) -> ModelVersion | None:
        number = self._scene.last_good(version.model_name)
        return None if number in (None, version.number) else ModelVersion(version.model_name, number)

    def _predecessor(self, version: ModelVersion) -> Predecessor:
        """Returns what `version` takes over, if it is the one that should get the traffic."""
        if not self._scene.stable(version):
            return Predecessor(frozenset(), lambda metadata: "")
        routed = self._scene.routed(version.model_name)
        old = self._versions.get(ModelVersion(version.model_name, routed)) if routed is not None else None
        return Predecessor(
            frozenset(old.scheduler.batch_sizes) if old is not None else frozenset(),
            lambda metadata: self._scene.objection(version, metadata),
        )

    def _drain(self, version: ModelVersion) -> None:
        served = self._versions.get(version)
        if (
            served is None
            or self._scene.routed(version.model_name) == version.number
            or self._scene.still_wanted(version)
        ):
            return  # the picture has changed since the decision
        self._versions.drain(served)
        self._scene.publish()

    async def _make_room(self, action: Action, incoming: ModelVersion) -> None:
        """Takes a version away so that another fits, once the other's files are known to be right."""
        version = action.version
        try:
            await self._bring_up.vouch(incoming)
        except (Unfit, Unread) as error:
            everywhere = range(len(self._replicas))
            self._quarantine.put(incoming, error.message, everywhere, guilty=isinstance(error, Unfit))
            return
        if (why := await self._fits_nowhere(incoming)) is not None:
            self._quarantine.put(incoming, why, range(len(self._replicas)))
            return
        if action.kind is ActionKind.DRAIN:
            served = self._versions.get(version)
            if served is not None:
                self._versions.drain(served)
            return
        replica = self._replicas[action.replica]
        replica.ready_versions.discard(version)
        for _ in range(_EVICT_LOOKS):
            if not replica.in_flight.get(version):
                break
            await self._pause(_LOOK_S)
        async with replica.single_file:
            await self._take_off(version, replica)

    async def _fits_nowhere(self, version: ModelVersion) -> str | None:
        """Returns why no replica can execute the version; None if one can."""
        why = None
        for replica in self._replicas:
            try:
                await replica.control.fits(version)
                return None
            except GatewayError as error:
                why = error.message
        return why

    async def _unload(self, version: ModelVersion) -> None:
        self._versions.give_up(version)
        for replica in self._replicas:
            replica.ready_versions.discard(version)
            self.broken.discard((version, replica.name))
            if replica.backend.available:
                async with replica.single_file:
                    await self._take_off(version, replica)
            replica.backend.forget(version)
        self._quarantine.forget(version)
        self._succession.forget(version)
        self._versions.forget(version)

    async def _take_off(self, version: ModelVersion, replica: Replica) -> None:
        """Unloads; what cannot be unloaded now is an orphan, which the patrol finds."""
        if version in replica.ready_versions:
            return
        try:
            await replica.control.unload(version)
        except GatewayError as error:
            _log.warning("unloading %s from %s: %s", version, replica.name, error.message)
