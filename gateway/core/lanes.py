"""The order in which items wait.

A `Lane` holds the items of one signature and one priority offset, earliest deadline first and ties by arrival, so that
its head is both the next to be served and the next to expire. A `Group` is the lanes of one signature.

Deadlines mostly come in order, and then a lane is a plain deque (`run`, O(1) per item); an item that is due before
the last of the run goes to a heap beside it. Withdrawn items stay where they are, marked `gone`, until they reach the
head or outnumber the living.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from heapq import heapify, heappop, heappush

from gateway.core.plans import QueueItem
from gateway.messages import Instant, Nanos

Entry = tuple[Instant, int, "Lane"]
"""An instant, a sequence number, a lane: a lower bound on the lane's head in one of the batcher's agendas."""

_COMPACT_AFTER = 32


class Lane:
    """Items of one signature and priority offset in order of (deadline, arrival).

    `entries` are the lane's current entries in the batcher's agendas (None where it has none).
    """

    __slots__ = ("entries", "ghosts", "group", "heap", "last", "offset", "run")

    def __init__(self, group: Group, offset: Nanos) -> None:
        self.group = group
        self.offset = offset
        self.run: deque[QueueItem] = deque()
        self.heap: list[tuple[Instant, int, QueueItem]] = []
        self.last: Instant = 0
        self.ghosts = 0
        self.entries: list[Entry | None] = [None, None]

    def push(self, item: QueueItem) -> None:
        """Puts an item in its place; its `seq` is larger than that of everything pushed before."""
        run = self.run
        if not run or item.deadline >= self.last:
            self.last = item.deadline
            run.append(item)
        else:
            heappush(self.heap, (item.deadline, item.seq, item))

    def head(self) -> QueueItem | None:
        """Returns the first living item without taking it, or None."""
        run = self.run
        while run and run[0].gone:
            run.popleft()
            self.ghosts -= 1
        heap = self.heap
        if heap:
            while heap and heap[0][2].gone:
                heappop(heap)
                self.ghosts -= 1
            if heap:
                first = heap[0][2]
                if not run:
                    return first
                other = run[0]
                if first.deadline < other.deadline or (first.deadline == other.deadline and first.seq < other.seq):
                    return first
        return run[0] if run else None

    def take(self, item: QueueItem) -> None:
        """Removes `item`, which `head` has just returned."""
        run = self.run
        if run and run[0] is item:
            run.popleft()
        else:
            heappop(self.heap)

    def put_back(self, item: QueueItem) -> None:
        """Returns an item that was taken to its place, which is before most of what is still here."""
        run = self.run
        if not run:
            self.last = item.deadline
            run.append(item)
        elif (item.deadline, item.seq) < (run[0].deadline, run[0].seq):
            run.appendleft(item)
        else:
            heappush(self.heap, (item.deadline, item.seq, item))

    def typical_deadline(self) -> Instant:
        """Returns a deadline three quarters down the queue that the head is in; there must be a head."""
        head = self.head()
        run = self.run
        if run and run[0] is head:
            return run[len(run) * 3 // 4].deadline
        return self.heap[len(self.heap) * 3 // 4][0]

    def bury(self) -> None:
        """Counts an item of this lane that was marked gone; throws the gone out when they outnumber the living."""
        self.ghosts += 1
        run, heap = self.run, self.heap
        if self.ghosts > _COMPACT_AFTER and self.ghosts * 2 > len(run) + len(heap):
            self.run = deque([item for item in run if not item.gone])
            heap[:] = [entry for entry in heap if not entry[2].gone]
            heapify(heap)
            self.ghosts = 0
            # `last` may be that of an item thrown out: later than the tail, so only more items take the heap.

    def items(self) -> list[QueueItem]:
        """Returns the living items in no particular order. O(n)."""
        return [item for item in (*self.run, *(entry[2] for entry in self.heap)) if not item.gone]

    def check(self) -> None:
        """Raises AssertionError if the order or the count of the gone is broken. O(n); for tests."""
        everything = len(self.run) + len(self.heap)
        assert self.ghosts == everything - len(self.items()), "ghosts are counted"
        assert self.ghosts <= max(_COMPACT_AFTER, everything), "ghosts are bounded"
        places = [(item.deadline, item.seq) for item in self.run if not item.gone]
        assert places == sorted(places), "the run is in order"
        assert not self.run or self.run[-1].deadline <= self.last, "nothing in the run is due after its last"


class Group:
    """What waits under one signature: its lanes by offset, and the rows and items in them.

    `since` is when the batch that is forming began to form; `held` that it waits for more in this poll.
    """

    __slots__ = ("by_offset", "count", "held", "lanes", "rows", "signature", "since")

    def __init__(self, signature: Hashable) -> None:
        self.signature = signature
        self.lanes: list[Lane] = []
        self.by_offset: dict[Nanos, Lane] = {}
        self.count = 0
        self.rows = 0
        self.since: Instant = 0
        self.held = False

    def lane(self, offset: Nanos) -> Lane:
        """Returns the lane of a priority offset, made on first use (there are at most MAX_PRIORITY of them)."""
        lane = self.by_offset.get(offset)
        if lane is None:
            lane = self.by_offset[offset] = Lane(self, offset)
            self.lanes.append(lane)
        return lane

    def strike(self, item: QueueItem) -> None:
        """Strikes an item off the count; its place in the lane is the caller's business."""
        self.count -= 1
        self.rows -= item.rows

    def head(self) -> QueueItem | None:
        """Returns the living item with the least (deadline + offset, arrival), or None."""
        lanes = self.lanes
        if len(lanes) == 1:
            return lanes[0].head()
        best: QueueItem | None = None
        best_key = (0, 0)
        for lane in lanes:
            item = lane.head()
            if item is not None:
                key = (item.deadline + lane.offset, item.seq)
                if best is None or key < best_key:
                    best, best_key = item, key
        return best
