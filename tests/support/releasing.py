"""A whole gateway's releases in a virtual world: manager, control, a registry in memory, callers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gateway.engine.releases import ReleaseControl
from gateway.engine.switched_observer import SwitchedObserver
from gateway.errors import ErrorCode, GatewayError, SourceUnreadable
from gateway.judgements import EvidenceBundle
from gateway.ports import BackendRequest
from gateway.releases import Criteria, Release, ReleaseStatus
from tests.support.engine import SECOND
from tests.support.releases import plan, running, steps
from tests.support.swapping import Source, Swapping
from tests.support.virtual_loop import pause

_ENDED = (ReleaseStatus.ROLLED_BACK, ReleaseStatus.ENDED)


class Book:
    """A `ReleaseBook` on the source in memory; `away` makes the registry unwritable, `rival` decides first.

    `hangs` lets writes hang as long as it is set; `tries` counts those that were begun.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.away = False
        self.hangs = False
        self.tries = 0
        self.rival: ReleaseStatus | None = None
        self.bundles: list[EvidenceBundle] = []
        self.ended: dict[str, Release] = {}

    def releases(self) -> Mapping[str, Release]:
        return dict(self.source.released)

    async def advance(self, release: Release, bundle: EvidenceBundle) -> bool:
        self.tries += 1
        await pause(0.02)
        while self.hangs:
            await pause(0.1)
        if self.away:
            raise SourceUnreadable("away")
        name, to = release.plan.model_name, bundle.decision.to
        assert to is not None
        now = self.source.released.get(name)
        if self.rival is not None and now is not None:
            self.source.released[name] = Release(
                now.plan, dataclasses.replace(now.progress, status=self.rival, decision=now.progress.decision + 1)
            )
            self.rival = None
        if self.source.released.get(name) != release:
            return False
        self.bundles.append(bundle)
        self.put(Release(release.plan, to))
        return True

    def put(self, release: Release) -> None:
        """Writes a release down with what follows for the pointer."""
        plan, status, name = release.plan, release.progress.status, release.plan.model_name
        stable = plan.candidate if status is ReleaseStatus.PROMOTED else plan.stable
        if status in _ENDED or (status is ReleaseStatus.PROMOTED and not plan.watch_after):
            self.source.released.pop(name, None)
            self.ended[name] = release
            self.source.wanted[name] = (stable,)
        else:
            self.source.released[name] = release
            other = plan.stable if status is ReleaseStatus.PROMOTED else plan.candidate
            self.source.wanted[name] = (stable, other)
        self.source.decisions += 1


class Counts:
    """A `CountsKeeper` that lives as long as it is kept."""

    def __init__(self) -> None:
        self.saved: dict[str, Mapping[str, Any]] = {}

    async def load(self, release_id: str) -> Mapping[str, Any] | None:
        return self.saved.get(release_id)

    async def save(self, release_id: str, document: Mapping[str, Any]) -> None:
        self.saved[release_id] = document

    async def keep_only(self, release_ids: frozenset[str]) -> None:
        self.saved = {name: document for name, document in self.saved.items() if name in release_ids}


class Releasing(Swapping):
    """Use inside `virtual_loop.run`; `start` first."""

    def __init__(self, seed: int = 0, replicas: int = 1, source: Source | None = None, **options: Any) -> None:
        self.switch: SwitchedObserver | None = None
        super().__init__(seed, replicas, source, **options)
        self.switch = SwitchedObserver(self.observer)
        self.service._observer = self.switch
        self.book = Book(self.source)
        self.counts = Counts()
        self.wall = 1_000 * SECOND - self.clock.now()
        self.control = ReleaseControl(
            self.book,
            self.service,
            self.manager,
            self.switch,
            self.counts,
            self.clock,
            lambda: self.wall + self.clock.now(),
            self.manager.watch.look_now,
            "gw-test",
        )
        self.manager.routes.releases = self.control.releases
        self.control.looked()
        self.manager.watch.on_look = self.control.looked
        self.manager.watch.hurried = lambda: self.control.hurried

    async def start(self, release: Release) -> None:
        """Brings the gateway up with this release in the registry."""
        self.book.put(release)
        self.manager.start()
        self.manager._tasks.spawn(self.control.run(), "releases")
        await self.manager.settled()

    def _serve(self, version: Any, metadata: Any) -> Any:
        served = super()._serve(version, metadata)
        if self.switch is not None:
            served.scheduler._observer = self.switch
            self.control.attach(served.scheduler)
        return served

    async def traffic(self, requests: int, every: float = 0.002) -> dict[int, int]:
        """Lets callers come one after the other; returns how many were sent to each version."""
        sent: dict[int, int] = {}
        for _ in range(requests):
            pending = self.ask().pending
            assert pending is not None
            number = pending.scheduler.version.number
            sent[number] = sent.get(number, 0) + 1
            await pause(every)
        return sent


QUICK = Criteria(latency_increase=None, score_shift=None, nan_rate=None, disagreement_rate=None, outcome_loss=None,
                 error_rate=0.1)  # fmt: skip


def fails(world: Releasing, number: int, share: float) -> None:
    """Lets a share of the executions of a version fail at the backend."""
    for one in world.replicas:
        infer = one.infer

        def failing(request: BackendRequest, done: Any, infer: Any = infer) -> Any:
            if request.version.number == number and world.rng.random() < share:
                return infer(request, lambda outcome: done(GatewayError(ErrorCode.BACKEND_FAILED, "planted")))
            return infer(request, done)

        one.infer = failing  # type: ignore[method-assign]


def canary(weight: int = 2_500, **changes: Any) -> Any:
    given = {"criteria": QUICK, "steps": steps(weight, 10_000), "shadow_share": 0} | changes
    return running(plan(**given))
