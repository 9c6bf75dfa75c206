"""Which waiting requests leave together, and when: the queue of one model version on one backend.

Time is an argument and nothing here has effects, so a world of a million requests can be replayed exactly. The engine
calls `poll` after arrivals (all but those of `joins`), completions, withdrawals and timers and does what it says.

Invariants (see `check_invariants`, and tests/simulation):
* An offered item ends exactly once: refused at the door, withdrawn, or in one result as ready, expired or shed.
* A plan holds items of one signature and never more than max_rows rows or max_batch_bytes bytes (an item that is
  larger than max_batch_bytes by itself travels alone). Queued rows and bytes never exceed their bounds.
* With a slot free and work waiting, something leaves, unless a batch that could still grow is held back: by
  max_queue_delay while the backend is busy, or as sending it now would gain nothing (`staging`: slow models, and the
  briefest); then `wake_at` says until when. An expired item never enters a batch.
* Earliest deadline (shifted by priority) first, between and within signatures; ties by arrival. A batch may be topped
  up with small items that follow one that did not fit; that one then heads the next batch.
* With evidence in the cost profile, a batch is the largest that its earliest deadline allows, of a slow model no more
  than one instance's share of what waits and runs; and an item that would be answered too late is shed before it makes
  others late. Without evidence nothing is shed, unless the event loop itself is late (`pace`).
"""

from __future__ import annotations

from collections.abc import Hashable

from gateway.core.agenda import Agenda, check_groups
from gateway.core.backend_load import BackendLoad
from gateway.core.cost_profile import CostProfile
from gateway.core.door import Door
from gateway.core.forming import BatchFormer
from gateway.core.lanes import Entry, Group
from gateway.core.pace import Pace
from gateway.core.plans import MAX_PRIORITY, BatchLimits, BatchPlan, BatchReason, PollResult, QueueItem, Rejection
from gateway.messages import Instant

__all__ = ["BatchLimits", "BatchPlan", "BatchReason", "Batcher", "PollResult", "QueueItem", "Rejection"]

_SPARE_GROUPS = 64
"""So many groups are kept when they are empty: making one anew costs more than an item."""
_DUE, _TURN = 0, 1


class Batcher:
    """Owns the waiting items of one model version. Not thread-safe."""

    __slots__ = (
        "_door", "_draining", "_due", "_former", "_groups", "_items", "_latest", "_limits", "_load",
        "_nbytes", "_profile", "_rows", "_seen", "_seq", "_turns", "pace",
    )  # fmt: skip

    def __init__(self, limits: BatchLimits, profile: CostProfile) -> None:
        self._limits = limits
        self._profile = profile
        self._load = BackendLoad(limits.instances, profile)
        self._door = Door(limits, profile, self._load)
        self._former = BatchFormer(limits, profile, self._load)
        self._items: dict[int, QueueItem] = {}
        self._groups: dict[Hashable, Group] = {}
        self._due = Agenda(_DUE)
        self._turns = Agenda(_TURN)
        self._rows = self._nbytes = self._seq = 0
        self._latest: Instant = 0
        self._draining, self._seen = False, -1
        self.pace = Pace(limits)
        """What the door reckons with; who calls `poll` tells it how late the event loop is."""

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
    def max_rows(self) -> int:
        """Rows of the largest batch."""
        return self._limits.max_rows

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
        limits, pace = self._limits, self.pace
        rows = item.rows
        queued = self._rows
        deadline = item.deadline
        if (
            self._draining
            or rows < 1
            or (rows > limits.max_rows and limits.batchable)
            or queued + rows > limits.max_queue_rows
            or self._nbytes + item.nbytes > limits.max_queue_bytes
            or deadline - now <= (queued * pace.row_cost if deadline >= self._latest else 0) + pace.floor + pace.late
        ):
            rejection = self._door.refusal(item, now, queued, self._nbytes, self._draining)
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
        due, turn = lane.entries
        if due is None or deadline < due[0]:
            self._due.put(lane, deadline, seq)
        if turn is None or deadline + offset < turn[0]:
            self._turns.put(lane, deadline + offset, seq)
        return None

    def joins(self, item: QueueItem) -> bool:
        """Whether an item just taken in joins what is held back or waits for a slot: nothing new to decide."""
        return self._nbytes < self._limits.max_batch_bytes and self._former.staging.joins(item, self._rows)

    def withdraw(self, key: int) -> bool:
        """Takes an item out; returns False if it is not waiting (it left before, or never came)."""
        item = self._items.get(key)
        if item is None:
            return False
        item.gone = True
        group = item.lane.group
        group.strike(item)
        self._forget(item)
        item.lane.bury()
        if not group.count:
            self._retire(group)
        return True

    def drain(self) -> None:
        """Closes the door. What waits leaves as slots allow, without delay."""
        self._draining = True

    def _forget(self, item: QueueItem) -> None:
        """Strikes an item off the accounts; lane and group are the caller's business."""
        del self._items[item.key]
        self._rows -= item.rows
        self._nbytes -= item.nbytes

    def _retire(self, group: Group) -> None:
        """Lets go of an empty group, unless there are so few that keeping it ready is cheaper."""
        if not self._items:
            self._latest = 0
        if len(self._groups) > _SPARE_GROUPS:
            del self._groups[group.signature]

    # -- decisions --------------------------------------------------------------------------------------------------

    def poll(
        self, now: Instant, free_slots: int, busy_slots: int, *, starving: bool = False, usable: int | None = None
    ) -> PollResult:
        """Decides what leaves now; at most `free_slots` plans. `busy_slots` are those with a batch in them.

        `starving`: of several replicas one has nothing to do, whatever the others have. `usable`: so many instances can
        be reached (None: all).
        """
        result = PollResult([], [], [], None)
        self._former.starving = starving
        self._former.staging.look()
        self._load.usable = usable or self._limits.instances
        ended = self._load.sync(busy_slots, now)
        if ended and not self._former.staging.quick:
            self._former.staging.ended(ended, self._rows, now)
        due = self._due.entries
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
        first = self._due.entries[0][0]
        if free_slots <= 0:
            self._former.staging.full(first, busy_slots)
        result.wake_at = first if wake_at is None or first < wake_at else wake_at
        return result

    def _expire(self, now: Instant, expired: list[int]) -> None:
        """Takes out everything whose deadline has come; leaves every entry of `_due` later than `now`."""
        due = self._due
        while (entry := due.top()) is not None and entry[0] <= now:
            lane = entry[2]
            group = lane.group
            head = lane.head()
            while head is not None and head.deadline <= now:
                lane.take(head)
                group.strike(head)
                self._forget(head)
                expired.append(head.key)
                if not group.count:
                    self._retire(group)
                head = lane.head()
            if head is None:
                due.drop()
            else:
                due.correct(head.deadline, head.seq)

    def _consult_profile(self) -> None:
        """Takes over what the profile has learned since the last time."""
        profile = self._profile
        self._seen = profile.count
        self._former.consult_profile()
        self.pace.consult(profile)

    def _dispatch(self, now: Instant, free_slots: int, result: PollResult) -> Instant | None:
        """Fills the free slots; returns until when the first group that was held back is held, or None."""
        former, draining = self._former, self._draining
        wake_at: Instant | None = None
        held: list[Group] = []
        while free_slots > 0:
            group = self._next_group()
            if group is None:
                break
            if not draining and (until := former.hold_until(group, self._rows, self._nbytes, now)) > now:
                group.held = True
                held.append(group)
                wake_at = until if wake_at is None or until < wake_at else wake_at
                if not former.staging.quick:
                    # The slot is this group's: others would be held back in their turn, and this one for ever.
                    free_slots -= 1
                continue
            shed: list[QueueItem] = []
            formed = former.form(group, now, draining, shed)
            for item in shed:
                self._forget(item)
                result.shed.append(item.key)
            if formed is not None:
                plan = self._plan(group.signature, *formed)
                result.ready.append(plan)
                free_slots -= 1
                self._load.sent(plan.rows, now)
                if not former.staging.quick or former.staging.brief:
                    former.staging.sent(plan, self._rows + plan.rows)
            if group.count:
                following = group.head()
                assert following is not None
                group.since = following.enqueued_at
            else:
                self._retire(group)
        for group in held:
            group.held = False
        return wake_at

    def _next_group(self) -> Group | None:
        """Returns the group whose head comes first among those not held."""
        turns = self._turns
        aside: list[Entry] = []
        found: Group | None = None
        while (entry := turns.top()) is not None:
            lane = entry[2]
            head = lane.head()
            if head is None:
                turns.drop()
            elif lane.group.held:
                aside.append(turns.set_aside())
            elif head.seq == entry[1]:
                found = lane.group
                break
            else:
                turns.correct(head.deadline + lane.offset, head.seq)
        if aside:
            turns.restore(aside)
        return found

    def _plan(self, signature: Hashable, chosen: list[QueueItem], reason: BatchReason) -> BatchPlan:
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
        return BatchPlan(keys, rows, nbytes, signature, reason)

    def check_invariants(self) -> None:
        """Raises AssertionError if the accounts, lanes and agendas disagree. O(n); for tests and simulation."""
        items = list(self._items.values())
        assert self._rows == sum(item.rows for item in items), "queued rows"
        assert self._nbytes == sum(item.nbytes for item in items), "queued bytes"
        assert self._rows <= self._limits.max_queue_rows, "row bound"
        assert self._nbytes <= self._limits.max_queue_bytes, "byte bound"
        check_groups(self._groups, len(items), self._due, self._turns)
        assert len(self._groups) <= _SPARE_GROUPS + len(items) + 1, "groups are bounded"
