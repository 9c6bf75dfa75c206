"""Judges the releases that this gateway routes, and acts: the rollback here at once, everything in the registry.

Level-triggered: each look at the registry gives all releases and what should be loaded at one moment; between looks
nothing is believed but what this gateway itself decided. Invariants: a rollback takes effect before anything is awaited
and stays in force until the registry says otherwise; every other decision holds only once the registry has it; who
loses against another writer looks again; nobody's decision waits for a write; counts outlive the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.core.outcome_matching import Outcome
from gateway.core.release_routes import in_progress
from gateway.core.rollout import decide
from gateway.engine.release_decisions import RETRY_ROUNDS, ReleaseDecisions
from gateway.engine.release_watch import ReleaseWatch
from gateway.engine.scheduler import VersionScheduler
from gateway.engine.service import InferService
from gateway.engine.switched_observer import SwitchedObserver
from gateway.judgements import Decision, DecisionKind, EvidenceBundle
from gateway.messages import Nanos
from gateway.ports import Clock, ReleaseBook
from gateway.releases import Release, WallInstant

_log = logging.getLogger("sluice.releases")
LOOK_S = 0.25
_IDLE_S = 5.0
_SAVE_LOOKS = 8
_JUDGE_EVERY: Nanos = 1_000_000_000


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
        self._service = service
        self._manager = manager
        self._observer = observer
        self._keeper = keeper
        self._clock = clock
        self._wall = wall
        self._ask = look
        self._book = book
        self._gateway = gateway
        self._known: Mapping[str, Release] = {}
        self.watches: dict[str, ReleaseWatch] = {}
        self._leaving: list[ReleaseWatch] = []
        self._last: dict[str, Decision] = {}
        self._wake = asyncio.Event()
        self._saving = asyncio.Lock()
        self._decisions = ReleaseDecisions(book, self.save, look, self._wake.set)
        self._looks = 0

    # ------------------------------------------------------------------ what the registry says

    def looked(self) -> None:
        """The registry was read: takes over all releases as of that moment."""
        try:
            self._known = dict(self._book.releases())
        except Exception:
            _log.exception("reading the releases; going on with those known")
        for name in self._decisions.looked(self._known):
            # What spoke against the candidate still does: nobody is sent there in between.
            watch, release = self.watches.get(name), self._known[name]
            if watch is not None and watch.release.plan.id == release.plan.id:
                watch.follow(release)
                self._judge(name, again=True)
        self._manager.trigger()
        self._wake.set()

    def releases(self) -> Mapping[str, Release]:
        """Returns the release of each model that has one, with the rollbacks that are not written down yet."""
        return self._decisions.in_force(self._known)

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
        try:
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
        finally:
            await self._decisions.close()

    async def round(self) -> None:
        """Looks at every release once."""
        self._looks += 1
        await self._follow()
        self._decisions.round()
        for name in sorted(self.watches):
            try:
                self.watches[name].collector.look()
                self._judge(name)
            except Exception:
                _log.exception("judging the release of %s", name)
        if self._looks % _SAVE_LOOKS == 0:
            await self.save()

    async def save(self) -> None:
        """Writes down what was counted since the last time."""
        async with self._saving:
            for watch in list(self.watches.values()):
                watch.collector.look()
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

    def _judge(self, name: str, *, again: bool = False) -> None:
        """Decides about one release; `again` even if nothing was counted since the last time."""
        waits = self._decisions.waits(name)
        watch, release = self.watches[name], self._known.get(name)
        if waits is DecisionKind.ROLLBACK or release is None or release.plan.id != watch.release.plan.id:
            return
        collector = watch.collector
        if not again and not self._due(watch):
            return
        watch.judged, watch.judged_at = collector.changes, self._clock.now()
        now = self._wall()
        decision = decide(release, collector.evidence(), now, intervals=False)
        back = decision.kind is DecisionKind.ROLLBACK
        if not back and (waits is not None or (decision.to is not None and not self._decisions.ready(name))):
            return
        self._last[name] = decision
        if decision.to is None:
            return
        _log.info("release %s: %s: %s", release.plan.id, decision.kind.value, decision.detail)
        self._decisions.take(name, release, self._bundle(watch, release, now))
        if back:
            # Before anything is awaited: from here on nobody is sent to the candidate.
            self._manager.publish()
            self._manager.trigger()

    def _due(self, watch: ReleaseWatch) -> bool:
        """Whether it is time to decide about a release again: a decision takes milliseconds of the event loop.

        Failures of the candidate in a row are not waited with.
        """
        collector, most = watch.collector, watch.release.plan.criteria.consecutive_failures
        if most is not None and collector.failures.in_a_row >= most:
            return True
        if self._clock.now() - watch.judged_at < _JUDGE_EVERY:
            return False
        return collector.changes != watch.judged or not self._looks % RETRY_ROUNDS

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
