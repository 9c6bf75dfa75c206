"""The version manager: performs what `core.reconciling` decides.

Every step looks at the whole picture: it publishes the routes that follow from it and starts the actions that follow.
Invariants: at most one action of a model at a time, at most one load or unload on a replica at a time; a route table
never names a version that has begun to drain; whatever fails before a version is ready changes nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.reconciling import Action, ModelPicture, SwapPolicy, next_action
from gateway.engine.actions import Actions
from gateway.engine.bringup import BringUp
from gateway.engine.patrol import Patrol
from gateway.engine.quarantine import Quarantine
from gateway.engine.replicas import Replica, ReplicaSet
from gateway.engine.route_building import Routes
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.engine.silence import Silence
from gateway.engine.succession import Succession
from gateway.engine.tasks import TaskGroup
from gateway.engine.versions import VersionTable
from gateway.engine.watching import SourceWatch
from gateway.messages import ModelMetadata, Nanos
from gateway.ports import Clock, Observer, VersionRecords
from gateway.routes import RouteTable
from gateway.versions import ModelVersion, VersionState

_log = logging.getLogger("sluice.manager")
_SECOND: Nanos = 1_000_000_000
_DRAIN_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerOptions:
    """`drain_limit`: how long a leaving version may take to answer what it has. `orphan_age`: how long a loaded
    version that nobody here knows must have been seen before it is unloaded."""

    policy: SwapPolicy = SwapPolicy.AVAILABILITY
    drain_limit: Nanos = 60 * _SECOND
    orphan_age: Nanos = 10 * _SECOND
    look_seconds: float = 5.0


class VersionManager:
    """Owns the set of versions known to the gateway and everything that changes it."""

    def __init__(
        self,
        watch: SourceWatch,
        records: VersionRecords | None,
        replicas: ReplicaSet,
        service: InferService,
        clock: Clock,
        observer: Observer,
        serve: Callable[[ModelVersion, ModelMetadata], ServedVersion],
        options: ManagerOptions,
        pause: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        """`serve` builds a version's scheduler; `records` is None where the backend's models are its own."""
        self.watch = watch
        watch.on_look = self.trigger
        self._records = records
        self._replicas = replicas
        self._service = service
        self._clock = clock
        self._options = options
        self._versions = VersionTable(clock, observer, options.drain_limit)
        self._quarantine = Quarantine(clock)
        bring_up = BringUp(records, clock, serve, observer.version_state, pause)
        self._succession = Succession(records)
        self._silence = Silence(replicas, clock)
        self._actions = Actions(self, replicas, self._versions, self._quarantine, bring_up, self._succession, pause)
        self._patrol = Patrol(self, replicas, clock, options.look_seconds, options.orphan_age)
        self._busy: dict[str, Action] = {}
        self._generations: dict[str, int] = {}
        self._remembered: dict[str, int] = {}
        self.routes = Routes()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._tasks = TaskGroup()

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to watch the registry and to reconcile, in the background."""
        self._tasks.spawn(self.watch.run(), "registry watch")
        self._tasks.spawn(self._run(), "version manager")
        self._tasks.spawn(self._patrol.run(), "replica patrol")

    async def close(self) -> None:
        await self._tasks.close()

    async def settled(self) -> None:
        """Waits until nothing is left to do for the moment (failed versions wait for their retry)."""
        await self._settled.wait()

    def trigger(self) -> None:
        """Something changed: look again."""
        self._settled.clear()
        self._changed.set()

    def replica_lost(self, replica: Replica) -> None:
        """The replica's process died and took its loaded versions along."""
        replica.lose()
        self._actions.broken = {(version, name) for version, name in self._actions.broken if name != replica.name}
        self.publish()
        self.trigger()

    def backend_changed(self) -> None:
        """A connection came or went."""
        self._patrol.hurry()
        self.trigger()

    def version_died(self, version: ModelVersion, replica: Replica) -> None:
        """The replica's copy of a version no longer answers: nothing more is sent there until it is loaded again."""
        if version in replica.ready_versions:
            _log.error("%s died on %s; loading it again", version, replica.name)
            replica.ready_versions.discard(version)
            self._actions.broken.add((version, replica.name))
            self.trigger()

    def version_lost(self, version: ModelVersion, replica: Replica) -> None:
        """The replica says that it has not got the version (any more)."""
        if version in replica.ready_versions and not self.acting_on(version):
            _log.warning("%s is no longer ready on %s", version, replica.name)
            replica.ready_versions.discard(version)
            self.publish()
            self.trigger()

    # ------------------------------------------------------------------ what others may know

    @property
    def desired(self) -> Mapping[str, tuple[int, ...]]:
        return self.watch.desired

    @property
    def source_error(self) -> str | None:
        return self.watch.error

    def failures(self) -> dict[ModelVersion, str]:
        """Returns why versions that should be served are not."""
        return self._quarantine.reasons() | self._succession.barred

    def acting_on(self, version: ModelVersion) -> bool:
        """Whether an action on that very version is under way."""
        action = self._busy.get(version.model_name)
        return action is not None and action.version == version

    def accounts_for(self, version: ModelVersion) -> bool:
        """Whether somebody here has to do with that version; True while it is not known what should be served."""
        if self.watch.seen_at is None or version in self._versions or self.acting_on(version):
            return True
        return self.still_wanted(version)

    # ------------------------------------------------------------------ the loop

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                idle = self._step()
            except Exception:
                _log.exception("reconciling")
                idle = True
            if idle and not self._changed.is_set() and self._looked_once():
                self._settle()
            try:
                async with asyncio.timeout(self._wait_seconds()):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _settle(self) -> None:
        if self.routes.starting:
            self.routes.starting = False
            self.publish()
        self._settled.set()

    def _looked_once(self) -> bool:
        return self.watch.seen_at is not None or self.watch.error is not None

    def _wait_seconds(self) -> float:
        if self._versions.draining():
            return _DRAIN_LOOK_S
        wait = self._options.look_seconds
        if self._silence.any:
            wait = min(wait, 0.2)
        retry = self._quarantine.next_retry()
        return wait if retry is None else max(0.01, min(wait, (retry - self._clock.now()) / _SECOND))

    def _step(self) -> bool:
        """Looks at everything once; returns whether nothing is under way."""
        self._silence.notice()
        for name in list(self._generations.keys() | self.watch.desired.keys()):
            self._notice_decision(name)
        self.publish()
        for name in sorted(self.watch.desired.keys() | self._versions.models() | self._quarantine.models()):
            if name in self._busy:
                continue
            action = next_action(self._picture(name))
            if action is not None:
                self._busy[name] = action
                self._tasks.spawn(self._perform(action), f"{action.kind.value} {action.version}")
        return not self._busy

    def _notice_decision(self, name: str) -> None:
        """Somebody decided anew what the model should serve: what failed before gets another chance at once."""
        generation = self._records.generation(name) if self._records is not None else 0
        if self._generations.get(name) != generation:
            self._generations[name] = generation
            self._quarantine.pardon(name)
        if not self.watch.desired.get(name):
            self._remembered.pop(name, None)
            self._succession.withdraw(name)
        if name not in self.watch.desired:
            self._generations.pop(name, None)

    def _picture(self, name: str) -> ModelPicture:
        replicas = self._replicas.replicas
        return ModelPicture(
            name=name,
            desired=self.wanted(name),
            versions=self._versions.statuses(name, replicas, self._quarantine),
            connected=tuple(index for index, replica in enumerate(replicas) if replica.backend.available),
            now=self._clock.now(),
            last_good=self.last_good(name),
            routed=self.routed(name),
            policy=self._options.policy,
            barred=frozenset(self._objections(name)),
            trial=self.routes.on_trial(name),
        )

    def wanted(self, name: str) -> tuple[int, ...]:
        """Returns the versions of the model that should be loaded, the stable one first."""
        return self.routes.wanted(name, self.watch.desired.get(name, ()))

    def _objections(self, name: str) -> dict[int, str]:
        """Returns the versions that serve who asks for them and must not get the traffic that names none, with why."""
        return {
            served.version.number: text
            for served in self._versions.ready_of(name)
            if (text := self.objection(served.version, served.metadata))
        }

    async def _perform(self, action: Action) -> None:
        try:
            await self._actions.perform(action)
        finally:
            del self._busy[action.version.model_name]
            self.publish()
            self.trigger()

    # ------------------------------------------------------------------ actions.Scene

    def routed(self, name: str) -> int | None:
        """Returns the version that gets the model's traffic."""
        return self.routes.stable(name)

    def still_wanted(self, version: ModelVersion) -> bool:
        """Whether the version should be loaded: somebody says so, or it is what served last."""
        name = version.model_name
        return version.number in self.wanted(name) or version.number == self.last_good(name)

    def last_good(self, name: str) -> int | None:
        """Returns the version that served last; None for a withdrawn model, whose versions are not to come back."""
        if not self.watch.desired.get(name):
            return None
        last = self._remembered.get(name) or (self._records.last_good(name) if self._records is not None else None)
        return None if last in self.routes.on_trial(name) else last

    def stable(self, version: ModelVersion) -> bool:
        """Whether the version is the one that should get the traffic, or a share of it."""
        name = version.model_name
        return self.wanted(name)[:1] == (version.number,) or version.number in self.routes.on_trial(name)

    def objection(self, version: ModelVersion, metadata: ModelMetadata) -> str:
        """Returns why the version must not get the traffic, or a share of it; empty if it may."""
        return self._succession.objection(version, metadata, self.wanted(version.model_name))

    # ------------------------------------------------------------------ publication

    def publish(self) -> None:
        """Brings states and routes in line with where versions are ready; one assignment if anything differs."""
        self._versions.check_states(self._replicas.replicas, self._mending())
        routes, barred = {}, {}
        for name in self.watch.desired:
            picture = self._picture(name)
            for number in picture.barred & {*self.wanted(name)[:1], *picture.trial}:
                barred[ModelVersion(name, number)] = self._objections(name)[number]
            route = self.routes.build(picture)
            if route is not None:
                routes[name] = route
                served = self._versions.get(ModelVersion(name, route.stable))
                if served is not None and served.state is VersionState.READY:
                    self._succession.serves(served.version, served.metadata)
                    self._remember(name, route.stable)
        self._succession.note(barred)
        unreadable = self._records.unreadable() if self._records is not None else frozenset()
        complete = self.watch.seen_at is not None or bool(self.watch.desired)
        versions = self._versions.published({*routes, *unreadable})
        table = RouteTable(0, routes, unreadable, complete)
        if self.routes.take(table, again=versions != self._service.versions):
            self._service.publish(self.routes.table, versions)

    def _mending(self) -> set[ModelVersion]:
        """Returns the versions whose process died a moment ago and that are being loaded again for the first time."""
        return {version for version, _ in self._actions.broken} - self._quarantine.reasons().keys()

    def _remember(self, name: str, number: int) -> None:
        if self._remembered.get(name) != number:
            self._remembered[name] = number
            if self._records is not None and self._records.last_good(name) != number:
                self._tasks.spawn(self._records.remember(name, number), f"remember {name}/{number}")
