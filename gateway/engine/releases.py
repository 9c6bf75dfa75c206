"""Judges the releases that this gateway routes, and acts: the rollback here at once, everything in the registry.

Level-triggered: each look at the registry gives all releases and what should be loaded at one moment; between looks
nothing is believed but what this gateway itself decided. Invariants: a rollback takes effect before anything is awaited
and stays in force until the registry says otherwise; every other decision holds only once the registry has it; who
loses against another writer looks again; counts outlive the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.core.outcome_matching import Outcome
from gateway.core.release_routes import in_progress
from gateway.core.rollout import decide
from gateway.engine.release_watch import ReleaseWatch
from gateway.engine.scheduler import VersionScheduler
from gateway.engine.service import InferService
from gateway.engine.switched_observer import SwitchedObserver
from gateway.errors import SourceUnreadable
from gateway.judgements import Decision, DecisionKind, EvidenceBundle
from gateway.ports import Clock, ReleaseBook
from gateway.releases import Release, WallInstant

_log = logging.getLogger("sluice.releases")
LOOK_S = 0.25
_IDLE_S = 5.0
_SAVE_LOOKS = 8
_RETRY_LOOKS = 4


class CountsKeeper(Protocol):
    """Where counts outlive the process. Methods never raise for a file that cannot be read or written."""

    async def load(self, release_id: str) -> Mapping[str, Any] | None: ...

    async def save(self, release_id: str, document: Mapping[str, Any]) -> None: ...

    async def keep_only(self, release_ids: frozenset[str]) -> None: ...


class VersionPublisher(Protocol):
    """The version manager, as far as releases have to do with it."""

    def publish(self) -> None: ...

    def trigger(self) -> None: ...


class ReleaseControl:
    """Owns the watches of the releases. Implements `ports.LiveReleases`; `releases` is what routes are made from."""

    def __init__(
        self,
        book: ReleaseBook,
        service: InferService,
        manager: VersionPublisher,
        observer: SwitchedObserver,
        keeper: CountsKeeper,
        clock: Clock,
        wall: Callable[[], WallInstant],
        look: Callable[[], None],
        gateway: str,
    ) -> None:
        """`look` asks for a look at the registry; `gateway` is this gateway's name in records."""
        self._book = book
        self._service = service
        self._manager = manager
        self._observer = observer
        self._keeper = keeper
        self._clock = clock
        self._wall = wall
        self._ask = look
        self._gateway = gateway
        self._known: Mapping[str, Release] = {}
        self._decided: dict[str, tuple[Release, EvidenceBundle]] = {}
        """Rollbacks that were decided here, on the release as it was then, until the registry knows."""
        self.watches: dict[str, ReleaseWatch] = {}
        self._leaving: list[ReleaseWatch] = []
        self._last: dict[str, Decision] = {}
        self._wake = asyncio.Event()
        self._retry_in: dict[str, int] = {}
        self._looks = 0

    # ------------------------------------------------------------------ what the registry says

    def looked(self) -> None:
        """The registry was read: takes over all releases as of that moment."""
        try:
            self._known = dict(self._book.releases())
        except Exception:
            _log.exception("reading the releases; going on with those known")
        for name, (before, _) in list(self._decided.items()):
            now = self._known.get(name)
            if now is None or now.plan.id != before.plan.id or now.progress != before.progress:
                del self._decided[name]
        self._manager.trigger()
        self._wake.set()

    def releases(self) -> Mapping[str, Release]:
        """Returns the release of each model that has one, with what was decided here and is not written down yet."""
        if not self._decided:
            return self._known
        found = dict(self._known)
        for name, (before, bundle) in self._decided.items():
            if name in found and bundle.decision.to is not None:
                found[name] = Release(before.plan, bundle.decision.to)
        return found

    def attach(self, scheduler: VersionScheduler) -> None:
        """A version has a new queue: what it does is seen from the first request on."""
        watch = self.watches.get(scheduler.version.model_name)
        if watch is not None:
            scheduler.tap = watch.tap_of(scheduler.version.number)

    @property
    def hurried(self) -> bool:
        """Whether the registry should be read often: what others decide must soon hold here."""
        return bool(self._known)

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Judges until cancelled."""
        while True:
            try:
                await self.round()
            except Exception:
                _log.exception("judging releases")
            try:
                async with asyncio.timeout(LOOK_S if self._known or self._leaving else _IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def round(self) -> None:
        """Looks at every release once."""
        self._looks += 1
        await self._follow()
        for name in sorted(self.watches):
            await self._judge(name)
        if self._looks % _SAVE_LOOKS == 0:
            await self.save()

    async def save(self) -> None:
        """Writes down what was counted since the last time."""
        for watch in list(self.watches.values()):
            if watch.saved != watch.collector.changes:
                watch.saved = watch.collector.changes
                await self._keeper.save(watch.release.plan.id, watch.document())

    async def _follow(self) -> None:
        """Brings the watches in line with the releases that there are."""
        releases = self.releases()
        for name, watch in list(self.watches.items()):
            release = releases.get(name)
            if release is None or release.plan.id != watch.release.plan.id:
                del self.watches[name]
                self._last.pop(name, None)
                watch.close()
                self._leaving.append(watch)
                await self._keeper.keep_only(frozenset(other.plan.id for other in releases.values()))
        for name, release in releases.items():
            if name not in self.watches:
                found = await self._keeper.load(release.plan.id)
                self.watches[name] = self._watch(release, found)
            watch = self.watches[name]
            watch.follow(release)
            if not in_progress(release):
                watch.shadow.close()
        self._leaving = [watch for watch in self._leaving if watch.shadow.running]
        self._observer.listen(
            {watch.release.plan.id: watch.collector for watch in self.watches.values()}, copies=bool(self._leaving)
        )

    def _watch(self, release: Release, found: Mapping[str, Any] | None) -> ReleaseWatch:
        try:
            return ReleaseWatch(release, self._service, self._clock, found, self._wake.set)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            _log.exception("what was counted of release %s cannot be used: counting anew", release.plan.id)
            return ReleaseWatch(release, self._service, self._clock, None, self._wake.set)

    async def _judge(self, name: str) -> None:
        if name in self._decided:
            await self._write(name, *self._decided[name])
            return
        watch = self.watches[name]
        release = self._known.get(name)
        if release is None or release.plan.id != watch.release.plan.id:
            return
        collector = watch.collector
        if collector.changes == watch.judged and self._looks % _RETRY_LOOKS:
            return
        watch.judged = collector.changes
        now = self._wall()
        decision = self._last[name] = decide(release, collector.evidence(), now, intervals=False)
        if decision.to is None:
            return
        bundle = self._bundle(watch, release, now)
        _log.info("release %s: %s: %s", release.plan.id, decision.kind.value, decision.detail)
        if decision.kind is DecisionKind.ROLLBACK:
            self._decided[name] = (release, bundle)
            # Before anything is awaited: from here on nobody is sent to the candidate.
            self._manager.publish()
            self._manager.trigger()
        await self.save()
        await self._write(name, release, bundle)

    async def _write(self, name: str, release: Release, bundle: EvidenceBundle) -> None:
        """Writes a decision down; what cannot be written is tried again, what was decided otherwise is looked at."""
        if self._retry_in.get(name, 0) > self._looks:
            return
        try:
            await self._book.advance(release, bundle)
        except SourceUnreadable as error:
            _log.warning("release %s: the decision cannot be written down: %s", release.plan.id, error)
            self._retry_in[name] = self._looks + _RETRY_LOOKS
            return
        self._retry_in.pop(name, None)
        self._ask()

    def _bundle(self, watch: ReleaseWatch, release: Release, now: WallInstant) -> EvidenceBundle:
        return self._record(watch, release, decide(release, watch.collector.evidence(), now), now)

    def _record(self, watch: ReleaseWatch, release: Release, decision: Decision, now: WallInstant) -> EvidenceBundle:
        found = watch.collector.disagreement
        return EvidenceBundle(
            release=release,
            decision=decision,
            evidence=watch.collector.evidence(),
            at=now,
            gateway=self._gateway,
            arms=watch.collector.arm_counts(),
            disagreements=found.summary(),
            worst=tuple(found.worst),
            configuration={"copies": watch.copies, "copies_dropped": watch.drops(), "look_s": LOOK_S},
        )

    # ------------------------------------------------------------------ ports.LiveReleases and others

    def seen(self, model_name: str) -> EvidenceBundle | None:
        """Returns what was seen so far and what follows from it now; None without a release."""
        watch, release = self.watches.get(model_name), self.releases().get(model_name)
        if watch is None or release is None or watch.release.plan.id != release.plan.id:
            return None
        return self._bundle(watch, release, self._wall())

    def look_now(self) -> None:
        """Asks for a look at the registry without waiting for its time."""
        self._ask()

    def report(self, outcomes: Sequence[Outcome]) -> int:
        """Takes what became known of requests; returns how many of them were a release's."""
        matched = 0
        for outcome in outcomes:
            # A request id belongs to one release: the others do not know it.
            for watch in self.watches.values():
                if watch.collector.knows(outcome.request_id):
                    matched += watch.collector.outcome(outcome)
                    break
        self._wake.set()
        return matched

    def views(self) -> tuple[EvidenceBundle, ...]:
        """Returns every release with what was counted, and the decision that was taken last, without intervals."""
        found = []
        for name, watch in sorted(self.watches.items()):
            release = self.releases().get(name)
            if release is not None:
                last = self._last.get(name, Decision(kind=DecisionKind.HOLD, detail="not judged yet"))
                found.append(self._record(watch, release, last, self._wall()))
        return tuple(found)
