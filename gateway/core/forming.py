"""How large the next batch of a group is, what is in it, and what is shed to make it worth sending.

With evidence in the cost profile a batch is the largest that its earliest deadline allows, and capped where more rows
buy no throughput. An item is shed if by itself it would be answered too late, or if its deadline would force a batch so
small that those behind it come too late. Without evidence nothing is shed and nothing is capped.
"""

from __future__ import annotations

from gateway.core.backend_load import BackendLoad
from gateway.core.cost_profile import CostProfile
from gateway.core.lanes import Group, Lane
from gateway.core.plans import BatchLimits, BatchReason, QueueItem
from gateway.core.staging import BRIEF, Staging
from gateway.messages import Instant

_EXPLORE_EVERY = 64
"""One in so many batches ignores the learned cap on their size, so that the cap can be unlearned."""
_LOOK_PAST = 8
"""How many items that do not fit may be passed over while a batch is topped up."""


class BatchFormer:
    """Takes batches out of groups. Strikes what it takes off the group's count, not off the batcher's accounts."""

    __slots__ = ("_capped", "_limits", "_load", "_profile", "cap", "staging", "starving")

    def __init__(self, limits: BatchLimits, profile: CostProfile, load: BackendLoad) -> None:
        self._limits = limits
        self._profile = profile
        self._load = load
        self._capped = 0
        self.cap = limits.max_rows
        self.staging = Staging(profile, load, limits.max_rows)
        self.starving = False

    def consult_profile(self) -> None:
        """Takes over the size cap that the profile has learned."""
        if self._limits.batchable:
            self.cap = self._profile.best_rows(self._limits.max_rows, self._limits.min_gain_percent)
            self.staging.consult_profile(self.cap)

    def hold_until(self, group: Group, waiting: int, nbytes: int, now: Instant) -> Instant:
        """Returns until when a group that may still grow is held back; `now` or earlier means: it leaves. `waiting`
        rows and `nbytes` bytes are in the whole queue."""
        limits, rows = self._limits, group.rows
        delay = limits.max_queue_delay if self._load.busy else 0
        staging = self.staging
        if rows >= self.cap or not limits.batchable:
            return now
        lingers = staging.quick and not delay and staging.lingers(waiting)
        if staging.quick and not delay and not lingers:
            return now
        nbytes = nbytes * rows // waiting
        if group.signature is None or nbytes >= limits.max_batch_bytes:
            return now  # it does not grow
        until = now
        if not self.starving:
            if not staging.quick:
                until = staging.hold_until(rows, waiting, nbytes, now)
            elif lingers:
                until = group.since + BRIEF
        if delay:
            until = max(until, group.since + delay)
        if until <= now:
            return now
        deadline = min(head.deadline for head in map(Lane.head, group.lanes) if head is not None)
        if lingers:
            staging.linger(until, deadline)
        return min(until, deadline - (self._profile.high(rows) or 0))

    def form(
        self, group: Group, now: Instant, draining: bool, shed: list[QueueItem]
    ) -> tuple[list[QueueItem], BatchReason] | None:
        """Takes the next batch out of a group, adding what stands in its way to `shed`; None if nothing is left."""
        profile = self._profile
        start = now + self._load.wait(now)
        while (head := group.head()) is not None:
            cap = self._size_cap(group, head)
            limit = cap
            high = profile.high(cap)
            if high is not None and high > head.deadline - start:
                limit = profile.rows_within(head.deadline - start, cap)
                if limit < head.rows:
                    mean = profile.mean(head.rows)
                    if mean is not None and mean > head.deadline - start and not self._load.may_probe(now):
                        head.lane.take(head)
                        group.strike(head)
                        shed.append(head)
                        continue
                    limit = head.rows
            chosen, blocked = self._gather(group, head, limit, start)
            if limit < cap:
                spoilers = self._spoilers(group, chosen, start, cap)
                if spoilers:
                    for item in reversed(chosen[spoilers:]):
                        item.lane.put_back(item)
                    for item in chosen[:spoilers]:
                        group.strike(item)
                        shed.append(item)
                    continue
            cut = blocked and cap < self.cap and limit == cap  # by an instance's share: it is not full
            reason = BatchReason.DRAIN if draining else self._reason(group, blocked and not cut, limit < cap, now)
            for item in chosen:
                group.rows -= item.rows
            group.count -= len(chosen)
            return chosen, reason
        return None

    def _size_cap(self, group: Group, head: QueueItem) -> int:
        """Returns the most rows that the next batch of a group should have, deadlines aside."""
        limits = self._limits
        if not limits.batchable:
            return head.rows
        cap = self.cap
        if cap < limits.max_rows and group.rows > cap:
            self._capped += 1
            if self._capped >= _EXPLORE_EVERY:
                self._capped = 0
                return limits.max_rows
        if limits.instances > 1 and not self.staging.quick:
            cap = min(cap, self._load.share(group.rows))  # more would keep one busy for long while others run dry
        return cap if cap > head.rows else head.rows

    def _gather(self, group: Group, head: QueueItem, limit: int, start: Instant) -> tuple[list[QueueItem], bool]:
        """Takes items of up to `limit` rows out of a group's lanes, `head` first.

        Returns them in order, and whether something that waits did not fit. Accounts are not touched yet.
        """
        limits = self._limits
        max_bytes = limits.max_batch_bytes
        single = len(group.lanes) == 1
        lane = head.lane
        lane.take(head)
        chosen = [head]
        rows, nbytes, earliest = head.rows, head.nbytes, head.deadline
        if not limits.batchable or head.signature is None:
            return chosen, True
        aside: list[QueueItem] = []
        while True:
            item = lane.head() if single else group.head()
            if item is None:
                break
            total = rows + item.rows
            fits = total <= limit and nbytes + item.nbytes <= max_bytes
            if fits and item.deadline < earliest:
                # Another lane's: less urgent by priority, yet due earlier.
                fits = total <= self._profile.rows_within(item.deadline - start, limit)
                if fits:
                    earliest = item.deadline
            if fits:
                item.lane.take(item)
                chosen.append(item)
                rows = total
                nbytes += item.nbytes
                continue
            if rows >= limit or len(aside) >= _LOOK_PAST:
                break
            item.lane.take(item)
            aside.append(item)
        for passed in reversed(aside):
            passed.lane.put_back(passed)
        return chosen, bool(aside) or item is not None

    def _spoilers(self, group: Group, chosen: list[QueueItem], start: Instant, cap: int) -> int:
        """Returns how many of the first of `chosen` to shed because they would make the others late.

        That is so if their deadlines allow only a batch less than 3/4 as large as most of what waits would, and
        whoever comes next could not be answered in time after such a small batch.
        """
        if not self._load.saturated:
            return 0
        following = group.head()
        if following is None:
            return 0
        profile = self._profile
        rows = sum(item.rows for item in chosen)
        most = profile.rows_within(following.lane.typical_deadline() - start, cap)
        target = min(most, group.rows)
        if rows * 4 >= target * 3:
            return 0
        small = profile.mean(rows) or 0
        rest = profile.high(min(most, group.rows - rows)) or 0
        if start + small + rest <= following.deadline:
            return 0
        for index, item in enumerate(chosen):
            if index and profile.rows_within(item.deadline - start, cap) * 4 >= min(target, group.rows) * 3:
                return index
        return len(chosen)

    def _reason(self, group: Group, blocked: bool, squeezed: bool, now: Instant) -> BatchReason:
        """Names why a batch leaves. `blocked`: something did not fit; `squeezed`: its deadline made it smaller."""
        if blocked:
            return BatchReason.DEADLINE if squeezed else BatchReason.FULL
        limits = self._limits
        if group.rows >= self.cap:
            return BatchReason.FULL
        if limits.max_queue_delay and self._load.busy:
            return BatchReason.DELAY if now - group.since >= limits.max_queue_delay else BatchReason.DEADLINE
        return BatchReason.IDLE
