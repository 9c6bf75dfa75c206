"""Which waiting requests leave together, and when: the queue of one model version on one backend.

Time is an argument and nothing here has effects, so a world of a million requests can be replayed exactly. The engine
calls `poll` after arrivals, completions, withdrawals and timers and does what it says.

Invariants (see `check_invariants`, and tests/simulation):
* An offered item ends exactly once: refused at the door, withdrawn, or in one result as ready, expired or shed.
* A plan holds items of one signature and never more than max_rows rows or max_batch_bytes bytes (an item that is
  larger than max_batch_bytes by itself travels alone). Queued rows and bytes never exceed their bounds.
* With a slot free and work waiting, something leaves, unless a max_queue_delay above zero holds a batch that could
  still grow while the backend is busy; then `wake_at` says until when. An expired item never enters a batch.
* Earliest deadline (shifted by priority) first, between and within signatures; ties by arrival. A batch may be topped
  up with small items that follow one that did not fit; that one then heads the next batch.
* With evidence in the cost profile, a batch is the largest that its earliest deadline allows, and an item that would
  be answered too late is shed before it makes others late. Without evidence nothing is shed.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush, heapreplace

from gateway.core.cost_profile import CostProfile
from gateway.core.lanes import Entry, Group, Lane
from gateway.core.plans import (
    MAX_PRIORITY,
    BatchLimits,
    BatchPlan,
    BatchReason,
    PollResult,
    QueueItem,
    Rejection,
    RejectionKind,
)
from gateway.messages import Instant, Nanos

__all__ = [
    "BatchLimits",
    "BatchPlan",
    "BatchReason",
    "Batcher",
    "PollResult",
    "QueueItem",
    "Rejection",
    "RejectionKind",
]

PROBE_AFTER: Nanos = 1_000_000_000
"""A backend idle for so long gets one batch although the profile says it will be late: it may have recovered."""
_EXPLORE_EVERY = 64
"""One in so many batches ignores the learned cap on their size, so that the cap can be unlearned."""
_LOOK_PAST = 8
"""How many items that do not fit may be passed over while a batch is topped up."""
_SPARE_GROUPS = 64
_AGENDA_SLACK = 256


class Batcher:
    """Owns the waiting items of one model version. Not thread-safe."""

    __slots__ = (
        "_agenda", "_agenda_bound", "_busy", "_busy_until", "_cap", "_capped", "_draining", "_due", "_floor", "_groups",
        "_items", "_latest", "_limits", "_nbytes", "_profile", "_row_cost", "_rows", "_seen", "_sent_at", "_seq",
    )  # fmt: skip

    def __init__(self, limits: BatchLimits, profile: CostProfile) -> None:
        self._limits = limits
        self._profile = profile
        self._items: dict[int, QueueItem] = {}
        self._groups: dict[Hashable, Group] = {}
        # Two agendas of lanes. An entry is a lower bound of its lane's head, corrected when it comes up; every lane
        # with living items has one entry in each (lane.turn, lane.due), other entries of it are stale.
        self._agenda: list[Entry] = []
        self._due: list[Entry] = []
        self._agenda_bound = _AGENDA_SLACK
        self._rows = 0
        self._nbytes = 0
        self._seq = 0
        self._latest: Instant = 0
        self._draining = False
        self._busy = 0
        self._busy_until: Instant = 0
        self._sent_at: Instant | None = None
        self._capped = 0
        self._seen = -1
        self._cap = limits.max_rows
        self._row_cost: Nanos = 0
        self._floor: Nanos = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def queued_rows(self) -> int:
        """Rows waiting."""
        return self._rows

    @property
    def queued_bytes(self) -> int:
        """Bytes waiting."""
        return self._nbytes

    @property
    def draining(self) -> bool:
        """Whether the door is closed for good."""
        return self._draining

    # -- arrivals and departures ------------------------------------------------------------------------------------

    def offer(self, item: QueueItem, now: Instant) -> Rejection | None:
        """Takes an item in, or says why not; a refused item leaves no trace.

        Raises:
            ValueError: an item with this key is waiting already.
        """
        limits = self._limits
        rows = item.rows
        queued = self._rows
        deadline = item.deadline
        if (
            self._draining
            or rows < 1
            or (rows > limits.max_rows and limits.batchable)
            or queued + rows > limits.max_queue_rows
            or self._nbytes + item.nbytes > limits.max_queue_bytes
            or deadline - now <= (queued * self._row_cost + self._floor if deadline >= self._latest else self._floor)
        ):
            rejection = self._refusal(item, now)
            if rejection is not None:
                return rejection
        items = self._items
        key = item.key
        if key in items:
            raise ValueError(f"key {key} is waiting already")
        items[key] = item
        item.seq = seq = self._seq = self._seq + 1
        self._rows = queued + rows
        self._nbytes += item.nbytes
        if deadline > self._latest:
            self._latest = deadline
        group = self._groups.get(item.signature)
        if group is None:
            group = self._groups[item.signature] = Group(item.signature)
        if not group.count:
            group.since = item.enqueued_at
        group.count += 1
        group.rows += rows
        priority = item.priority
        offset = limits.offsets[priority if 0 <= priority <= MAX_PRIORITY else MAX_PRIORITY] if priority else 0
        lane = group.by_offset.get(offset) or group.lane(offset)
        item.lane = lane
        lane.push(item)
        entry = lane.due
        if entry is None or deadline < entry[0]:
            lane.due = entry = (deadline, seq, lane)
            heappush(self._due, entry)
            if len(self._due) > self._agenda_bound:
                self._tidy_agendas()
        entry = lane.turn
        if entry is None or deadline + offset < entry[0]:
            lane.turn = entry = (deadline + offset, seq, lane)
            heappush(self._agenda, entry)
            if len(self._agenda) > self._agenda_bound:
                self._tidy_agendas()
        return None

    def withdraw(self, key: int) -> bool:
        """Takes an item out; returns False if it is not waiting (it left before, or never came)."""
        item = self._items.get(key)
        if item is None:
            return False
        item.gone = True
        self._forget(item)
        item.lane.bury()
        return True

    def drain(self) -> None:
        """Closes the door. What waits leaves as slots allow, without delay."""
        self._draining = True

    def _refusal(self, item: QueueItem, now: Instant) -> Rejection | None:
        """Names the bound that an item broke, or returns None if it is let in as a probe."""
        limits = self._limits
        if self._draining:
            return Rejection(RejectionKind.DRAINING)
        if item.rows < 1:
            return Rejection(RejectionKind.NO_ROWS)
        if limits.batchable and item.rows > limits.max_rows:
            return Rejection(RejectionKind.TOO_MANY_ROWS, limits.max_rows)
        if item.deadline <= now:
            return Rejection(RejectionKind.EXPIRED)
        if item.rows > limits.max_queue_rows:
            return Rejection(RejectionKind.TOO_MANY_ROWS, limits.max_queue_rows)
        # Half a queue later there is room for others too, not just for whoever comes back first.
        if self._rows + item.rows > limits.max_queue_rows:
            return Rejection(RejectionKind.QUEUE_ROWS, limits.max_queue_rows, self._time_for(self._rows // 2))
        if self._nbytes + item.nbytes > limits.max_queue_bytes:
            return Rejection(RejectionKind.QUEUE_BYTES, limits.max_queue_bytes, self._time_for(self._rows // 2))
        if self._may_probe(now):
            return None
        return Rejection(RejectionKind.CANNOT_FINISH, 0, self._time_for(self._rows))

    def _time_for(self, rows: int) -> Nanos | None:
        """Returns how long the backend takes for `rows` rows at its best, or None without evidence."""
        rate = self._profile.drain_rate()
        return rows * 1_000_000_000 // (rate * self._limits.instances) if rate else None

    def _may_probe(self, now: Instant) -> bool:
        """Whether nothing runs and nothing was sent for so long that the profile's refusals deserve a test."""
        return not self._busy and (self._sent_at is None or now - self._sent_at >= PROBE_AFTER)

    def _forget(self, item: QueueItem) -> None:
        """Strikes an item off the accounts; its place in the lane is the caller's business."""
        del self._items[item.key]
        self._rows -= item.rows
        self._nbytes -= item.nbytes
        group = item.lane.group
        group.count -= 1
        group.rows -= item.rows
        if not group.count:
            self._retire(group)

    def _retire(self, group: Group) -> None:
        """Lets go of an empty group, unless there are so few that keeping it ready is cheaper."""
        if not self._items:
            self._latest = 0
        if len(self._groups) > _SPARE_GROUPS:
            del self._groups[group.signature]

    def _tidy_agendas(self) -> None:
        """Throws stale entries and those of empty lanes out; at most two entries in three can be such afterwards."""
        for agenda, name in ((self._agenda, "turn"), (self._due, "due")):
            kept: list[Entry] = []
            for entry in agenda:
                lane = entry[2]
                if entry is getattr(lane, name):
                    if lane.head() is None:
                        setattr(lane, name, None)
                    else:
                        kept.append(entry)
            heapify(kept)
            agenda[:] = kept
        self._agenda_bound = _AGENDA_SLACK + 3 * max(len(self._agenda), len(self._due))

    # -- decisions --------------------------------------------------------------------------------------------------

    def poll(self, now: Instant, free_slots: int, busy_slots: int) -> PollResult:
        """Decides what leaves now; at most `free_slots` plans. `busy_slots` are those with a batch in them."""
        result = PollResult([], [], [], None)
        self._busy = busy_slots
        due = self._due
        if due and due[0][0] <= now:
            self._expire(now, result.expired)
        if not self._items:
            return result
        wake_at = None
        if free_slots > 0:
            if self._profile.count != self._seen:
                self._consult_profile()
            wake_at = self._dispatch(now, free_slots, result)
            if not self._items:
                return result
        first = due[0][0]
        result.wake_at = first if wake_at is None or first < wake_at else wake_at
        return result

    def _expire(self, now: Instant, expired: list[int]) -> None:
        """Takes out everything whose deadline has come; leaves every entry of `_due` later than `now`."""
        due = self._due
        while due and due[0][0] <= now:
            entry = due[0]
            lane = entry[2]
            if entry is not lane.due:
                heappop(due)
                continue
            head = lane.head()
            while head is not None and head.deadline <= now:
                lane.take(head)
                self._forget(head)
                expired.append(head.key)
                head = lane.head()
            if head is None:
                heappop(due)
                lane.due = None
            else:
                lane.due = (head.deadline, head.seq, lane)
                heapreplace(due, lane.due)

    def _consult_profile(self) -> None:
        """Takes over what the profile has learned since the last time."""
        profile, limits = self._profile, self._limits
        self._seen = profile.count
        if limits.batchable:
            self._cap = profile.best_rows(limits.max_rows, limits.min_gain_percent)
        rate = profile.drain_rate()
        self._row_cost = 1_000_000_000 // (rate * limits.instances) if rate else 0
        self._floor = profile.mean(1) or 0

    def _dispatch(self, now: Instant, free_slots: int, result: PollResult) -> Instant | None:
        """Fills the free slots; returns until when the first group that was held back is held, or None."""
        wake_at: Instant | None = None
        held: list[Group] = []
        while free_slots > 0:
            group = self._next_group(held)
            if group is None:
                break
            until = self._hold_until(group, now)
            if until > now:
                group.held = True
                held.append(group)
                wake_at = until if wake_at is None or until < wake_at else wake_at
                continue
            plan = self._form(group, now, result.shed)
            if plan is not None:
                result.ready.append(plan)
                free_slots -= 1
                self._sent(plan, now)
        for group in held:
            group.held = False
        return wake_at

    def _next_group(self, held: list[Group]) -> Group | None:
        """Returns the group whose head comes first among those not held."""
        agenda = self._agenda
        aside: list[Entry] = []
        found: Group | None = None
        while agenda:
            entry = agenda[0]
            lane = entry[2]
            if entry is not lane.turn:
                heappop(agenda)
                continue
            head = lane.head()
            if head is None:
                heappop(agenda)
                lane.turn = None
                continue
            if lane.group.held:
                aside.append(heappop(agenda))
                continue
            if head.seq == entry[1]:
                found = lane.group
                break
            lane.turn = (head.deadline + lane.offset, head.seq, lane)
            heapreplace(agenda, lane.turn)
        for entry in aside:
            heappush(agenda, entry)
        return found

    def _hold_until(self, group: Group, now: Instant) -> Instant:
        """Returns until when a group that may still grow is held back; `now` or earlier means: it leaves."""
        limits = self._limits
        if (
            not limits.max_queue_delay
            or not self._busy
            or self._draining
            or not limits.batchable
            or group.rows >= self._cap
        ):
            return now
        deadline = min(head.deadline for head in map(Lane.head, group.lanes) if head is not None)
        cost = self._profile.high(group.rows) or 0
        return min(group.since + limits.max_queue_delay, deadline - cost - self._wait(now))

    def _wait(self, now: Instant) -> Nanos:
        """Returns how long a batch sent now is expected to be staged behind others."""
        if self._busy < self._limits.instances or self._busy_until <= now:
            return 0
        return self._busy_until - now

    def _sent(self, plan: BatchPlan, now: Instant) -> None:
        """Keeps account of how busy the backend is expected to be."""
        cost = (self._profile.mean(plan.rows) or 0) // self._limits.instances
        self._busy_until = now + self._wait(now) + cost
        self._busy += 1
        self._sent_at = now

    def _form(self, group: Group, now: Instant, shed: list[int]) -> BatchPlan | None:
        """Takes the next batch out of a group, shedding what stands in its way; None if nothing is left."""
        profile = self._profile
        start = now + self._wait(now)
        while (head := group.head()) is not None:
            cap = self._size_cap(group, head)
            limit = cap
            high = profile.high(cap)
            if high is not None and high > head.deadline - start:
                limit = profile.rows_within(head.deadline - start, cap)
                if limit < head.rows:
                    mean = profile.mean(head.rows)
                    if mean is not None and mean > head.deadline - start and not self._may_probe(now):
                        head.lane.take(head)
                        self._forget(head)
                        shed.append(head.key)
                        continue
                    limit = head.rows
            chosen, blocked = self._gather(group, head, limit, start)
            if limit < cap:
                spoilers = self._spoilers(group, chosen, start, cap)
                if spoilers:
                    for item in reversed(chosen[spoilers:]):
                        item.lane.put_back(item)
                    for item in chosen[:spoilers]:
                        self._forget(item)
                        shed.append(item.key)
                    continue
            return self._plan(group, chosen, self._reason(group, blocked, limit < cap, now))
        return None

    def _size_cap(self, group: Group, head: QueueItem) -> int:
        """Returns the most rows that the next batch of a group should have, deadlines aside."""
        limits = self._limits
        if not limits.batchable:
            return head.rows
        cap = self._cap
        if cap < limits.max_rows and group.rows > cap:
            self._capped += 1
            if self._capped >= _EXPLORE_EVERY:
                self._capped = 0
                return limits.max_rows
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

        That is so if their deadlines allow only a batch less than half as large as most of what waits would, and
        whoever comes next could not be answered in time after such a small batch.
        """
        if self._busy + 1 < self._limits.instances:
            return 0
        following = group.head()
        if following is None:
            return 0
        profile = self._profile
        rows = sum(item.rows for item in chosen)
        most = profile.rows_within(following.lane.typical_deadline() - start, cap)
        target = min(most, group.rows)
        if rows * 2 >= target:
            return 0
        small = profile.mean(rows) or 0
        rest = profile.high(min(most, group.rows - rows)) or 0
        if start + small + rest <= following.deadline:
            return 0
        for index, item in enumerate(chosen):
            if index and profile.rows_within(item.deadline - start, cap) * 2 >= min(target, group.rows):
                return index
        return len(chosen)

    def _reason(self, group: Group, blocked: bool, squeezed: bool, now: Instant) -> BatchReason:
        """Names why a batch leaves. `blocked`: something did not fit; `squeezed`: its deadline made it smaller."""
        if self._draining:
            return BatchReason.DRAIN
        if blocked:
            return BatchReason.DEADLINE if squeezed else BatchReason.FULL
        limits = self._limits
        if group.rows >= self._cap:
            return BatchReason.FULL
        if limits.max_queue_delay and self._busy:
            return BatchReason.DELAY if now - group.since >= limits.max_queue_delay else BatchReason.DEADLINE
        return BatchReason.IDLE

    def _plan(self, group: Group, chosen: list[QueueItem], reason: BatchReason) -> BatchPlan:
        """Strikes the chosen off the accounts and makes the plan."""
        items = self._items
        keys: list[int] = []
        rows = nbytes = 0
        for item in chosen:
            key = item.key
            del items[key]
            keys.append(key)
            rows += item.rows
            nbytes += item.nbytes
        self._rows -= rows
        self._nbytes -= nbytes
        group.rows -= rows
        group.count -= len(keys)
        if group.count:
            following = group.head()
            assert following is not None
            group.since = following.enqueued_at
        else:
            self._retire(group)
        return BatchPlan(keys, rows, nbytes, group.signature, reason)

    # -- self-check -------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raises AssertionError if the accounts, lanes and agendas disagree. O(n); for tests and simulation."""
        items = list(self._items.values())
        assert self._rows == sum(item.rows for item in items), "queued rows"
        assert self._nbytes == sum(item.nbytes for item in items), "queued bytes"
        assert self._rows <= self._limits.max_queue_rows, "row bound"
        assert self._nbytes <= self._limits.max_queue_bytes, "byte bound"
        found = 0
        agenda, due = set(map(id, self._agenda)), set(map(id, self._due))
        for signature, group in self._groups.items():
            assert group.signature == signature, "group is filed under its signature"
            assert not group.held, "no group stays held after a poll"
            members = [item for lane in group.lanes for item in lane.items()]
            assert group.rows == sum(item.rows for item in members), "rows of a group"
            assert group.count == len(members), "count of a group"
            found += len(members)
            for lane in group.lanes:
                lane.check()
                first = min(((item.deadline, item.seq) for item in lane.items()), default=None)
                if first is not None:
                    assert lane.due is not None, "a lane with items has an expiry"
                    assert lane.turn is not None, "a lane with items has a turn"
                    assert id(lane.due) in due, "its expiry is on the agenda"
                    assert id(lane.turn) in agenda, "its turn is on the agenda"
                    assert lane.due[:2] <= first, "the expiry is a lower bound"
                    assert lane.turn[:2] <= (first[0] + lane.offset, first[1]), "the turn is a lower bound"
        assert found == len(items), "every item is in one lane"
        assert len(self._agenda) <= self._agenda_bound, "agenda is bounded"
        assert len(self._due) <= self._agenda_bound, "expiry agenda is bounded"
        assert len(self._groups) <= _SPARE_GROUPS + len(items) + 1, "groups are bounded"
