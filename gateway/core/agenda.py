"""Which lane comes next by some instant, without touching the agenda for every item.

An entry is a *lower bound* of its lane's head: items that leave do not correct it, only an item that comes earlier
does. Whoever finds an entry on top compares it with the head and corrects it, so the work per item is a comparison.
Every lane with living items has a current entry; others of it are stale and are dropped when they surface. Entries are
compared by value: compiled (docs/adr/0018) tuples have no identity. So one that was stale may be current again, beside
its equal. That harms nothing: what becomes of the one that surfaces first makes the other stale, or happens to it too.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from heapq import heapify, heappop, heappush, heapreplace

from gateway.core.lanes import Entry, Group, Lane
from gateway.messages import Instant

_SLACK = 256


class Agenda:
    """A heap of lower bounds; `slot` is where lanes keep their current entry for this agenda (`Lane.entries`)."""

    __slots__ = ("_bound", "entries", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.entries: list[Entry] = []
        self._bound = _SLACK

    def put(self, lane: Lane, at: Instant, seq: int) -> None:
        """Makes (at, seq) the current entry of a lane; it is earlier than the one before, or there was none."""
        entry = lane.entries[self.slot] = (at, seq, lane)
        heappush(self.entries, entry)
        if len(self.entries) > self._bound:
            self._tidy()

    def top(self) -> Entry | None:
        """Returns the first current entry, or None."""
        entries, slot = self.entries, self.slot
        while entries:
            entry = entries[0]
            if entry == entry[2].entries[slot]:
                return entry
            heappop(entries)
        return None

    def drop(self) -> None:
        """Removes the entry that `top` has just returned: its lane is empty."""
        heappop(self.entries)[2].entries[self.slot] = None

    def correct(self, at: Instant, seq: int) -> None:
        """Replaces the entry that `top` has just returned by what its lane's head really is."""
        lane = self.entries[0][2]
        entry = lane.entries[self.slot] = (at, seq, lane)
        heapreplace(self.entries, entry)

    def set_aside(self) -> Entry:
        """Takes the entry that `top` has just returned off for the moment; it stays current and must be restored."""
        return heappop(self.entries)

    def restore(self, aside: list[Entry]) -> None:
        """Puts entries back that were set aside."""
        for entry in aside:
            heappush(self.entries, entry)

    def _tidy(self) -> None:
        """Throws out what is stale or of an empty lane; the next time is when two entries in three may be such."""
        slot = self.slot
        current: dict[Lane, Entry] = {}
        for entry in self.entries:
            lane = entry[2]
            if entry == lane.entries[slot]:
                if lane.head() is None:
                    lane.entries[slot] = None
                else:
                    current[lane] = entry
        kept = list(current.values())
        heapify(kept)
        self.entries = kept
        self._bound = _SLACK + 3 * len(kept)

    def check(self, lane: Lane, at: Instant, seq: int) -> None:
        """Raises AssertionError unless a lane whose head is at (at, seq) is here with a lower bound; for tests."""
        entry = lane.entries[self.slot]
        assert entry is not None, "a lane with items has an entry"
        assert any(other == entry for other in self.entries), "its entry is on the agenda"
        assert entry[:2] <= (at, seq), "its entry is a lower bound"
        assert len(self.entries) <= self._bound, "the agenda is bounded"


def check_groups(groups: Mapping[Hashable, Group], items: int, due: Agenda, turns: Agenda) -> None:
    """Raises AssertionError unless `items` living items are in these groups and their lanes, and their lanes on the
    agendas by deadline and by turn. O(n); for tests."""
    found = 0
    for signature, group in groups.items():
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
                due.check(lane, *first)
                turns.check(lane, first[0] + lane.offset, first[1])
    assert found == items, "every item is in one lane"
