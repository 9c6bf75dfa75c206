"""One release as this gateway sees it: its collector, its copies, and the taps on the versions that take part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.release_routes import in_progress
from gateway.core.spare import LiveWork
from gateway.engine.answer_notes import Answers
from gateway.engine.copy_comparison import compare_copies
from gateway.engine.evidence import Collector
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.engine.shadow import Copy, Shadow
from gateway.engine.tap import SHADOW
from gateway.messages import Instant, Nanos
from gateway.ports import Clock
from gateway.releases import STABLE, Release, ReleaseKind


class ArmTap:
    """Sits on the scheduler of one arm's version. Implements `tap.Tap`."""

    __slots__ = ("_ended_at", "arm", "is_candidate", "watch")

    def __init__(self, watch: ReleaseWatch, arm: str) -> None:
        self.watch = watch
        self.arm = arm
        self.is_candidate = arm == watch.collector.candidate
        self._ended_at: Instant = 0

    def executed(self, rows: int, elapsed: Nanos, now: Instant, *, beside: bool) -> None:
        rest, self._ended_at = now - elapsed - self._ended_at, now
        watch = self.watch
        if watch.collector.compares and (self.is_candidate or self.arm == STABLE):
            watch.collector.executed(self.is_candidate, rows, elapsed, rest, beside=beside)

    def answered(self, answers: Answers, now: Instant) -> None:
        watch = self.watch
        if self.is_candidate:  # copies are nobody's requests
            answers = [one for one in answers if one[0].context.protocol is not SHADOW]
            if not answers:
                return
        if watch.copying:
            watch.shadow.lived(answers[0][0].dispatched_at)
        if watch.collector.answered(self.arm, answers, now):
            watch.look_soon()


class ReleaseWatch:
    """Owns everything about one release but the decisions."""

    def __init__(
        self,
        release: Release,
        service: InferService,
        clock: Clock,
        found: Mapping[str, Any] | None,
        alarm: Callable[[], None],
    ) -> None:
        """`found` are the counts of an earlier life; `alarm` asks for a decision at once."""
        self.release = release
        self._clock = clock
        self._service = service
        self.collector = Collector(release.plan, found)
        self.collector.alarm = alarm
        self.collector.at_step(release)
        self.collector.copy = self._copy
        self.collector.copies_wanted = lambda: self.copying and self.shadow.has_room
        self.shadow = Shadow(release.plan, clock, self._candidate, self._live, self._compare, self.collector.look)
        self.copies_before: int = (found or {}).get("copies", 0)
        self._taps: dict[int, ArmTap] = {arm.version: ArmTap(self, arm.name) for arm in release.plan.arms}
        self._taps[release.plan.stable] = ArmTap(self, STABLE)
        self._looking = False
        self.copying = False
        """Whether stable's requests are copied now."""
        self.judged = -1
        """`collector.changes` when it was last judged."""
        self.judged_at = -(10**10)
        self.saved = -1

    def tap_of(self, number: int) -> ArmTap | None:
        """Returns what sits on a version's queue, None for one that does not take part."""
        return self._taps.get(number)

    def follow(self, release: Release) -> None:
        """Takes over how far the release has come, and sits on the versions that are served now."""
        plan = release.plan
        self.release = release
        self.copying = plan.shadow_share > 0 and plan.kind is not ReleaseKind.AB and in_progress(release)
        self.collector.at_step(release)
        for number, served in self._service.versions.get(release.plan.model_name, {}).items():
            served.scheduler.tap = self.tap_of(number)

    def close(self) -> None:
        """The release is over."""
        self.collector.look()
        self.shadow.close()
        for served in self._service.versions.get(self.release.plan.model_name, {}).values():
            if isinstance(served.scheduler.tap, ArmTap) and served.scheduler.tap.watch is self:
                served.scheduler.tap = None

    @property
    def copies(self) -> int:
        return self.copies_before + self.shadow.copies

    def drops(self) -> dict[str, int]:
        """Returns the copies that were not run, by reason, earlier lives included."""
        self.collector.look()
        total = dict(self.collector.shadow_drops)
        for reason, count in self.shadow.drops.items():
            total[reason] = total.get(reason, 0) + count
        return total

    def document(self) -> dict[str, Any]:
        """Returns the counts for the file that outlives this process."""
        return self.collector.document() | {"copies": self.copies, "shadow_drops": self.drops()}

    # ------------------------------------------------------------------ when answers are looked at

    def look_soon(self) -> None:
        """Looks at the answers once they are on their way."""
        if not self._looking:
            self._looking = True
            self._clock.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        versions = self._service.versions.get(self.release.plan.model_name, {})
        if self.collector.full or not any(served.scheduler.pending for served in versions.values()):
            self.collector.look()

    # ------------------------------------------------------------------ what copies need

    def _candidate(self) -> ServedVersion | None:
        plan = self.release.plan
        return self._service.versions.get(plan.model_name, {}).get(plan.candidate)

    def _live(self) -> LiveWork:
        queued = batches = 0
        for served in self._service.all_versions():
            queued += served.scheduler.batcher.queued_rows
            batches += len(served.scheduler.in_flight)
        candidate = self._candidate()
        return LiveWork(queued, batches, len(candidate.scheduler.pending) if candidate is not None else 0)

    def _copy(self, answers: Answers) -> None:
        if self.copying:
            self.shadow.offer(answers)

    def _compare(self, copies: list[Copy]) -> None:
        compare_copies(self.collector, copies)
