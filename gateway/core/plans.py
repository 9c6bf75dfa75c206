"""The words between the engine and the batcher: what waits, what leaves, under which bounds, and why not.

Nothing here holds a tensor or a future, so that a queue can be simulated by the million. Spans and instants are
integer nanoseconds; rows are units along axis 0.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.messages import Instant, Nanos

if TYPE_CHECKING:
    from gateway.core.lanes import Lane

MAX_PRIORITY = 8
"""The least urgent priority level; larger values from clients count as this one, so that the offset stays bounded."""


class QueueItem:
    """One waiting request. `key` is unique among what waits; items with equal `signature` may share a batch,
    one with the signature None travels alone.

    `priority` is Triton's: 0 the model's default, 1 most urgent. `seq`, `lane` and `gone` belong to the batcher.
    """

    __slots__ = (
        "deadline", "enqueued_at", "gone", "key", "lane", "nbytes", "priority", "rows", "seq", "signature",
    )  # fmt: skip

    seq: int
    lane: Lane

    def __init__(
        self,
        key: int,
        rows: int,
        nbytes: int,
        signature: Hashable,
        enqueued_at: Instant,
        deadline: Instant,
        priority: int = 0,
    ) -> None:
        self.key = key
        self.rows = rows
        self.nbytes = nbytes
        self.signature = signature
        self.enqueued_at = enqueued_at
        self.deadline = deadline
        self.priority = priority
        self.gone = False

    def __repr__(self) -> str:
        return f"QueueItem(key={self.key}, rows={self.rows}, deadline={self.deadline}, priority={self.priority})"


class BatchReason(enum.Enum):
    """Why a batch left the queue when it did and as large as it was."""

    FULL = "full"
    """It could not grow: a row or byte bound, or the size beyond which the backend gets no faster."""
    IDLE = "idle"
    """A slot was free, and everything that could share the batch is in it."""
    DEADLINE = "deadline"
    """The earliest deadline in it allowed no more rows, or no more waiting."""
    DELAY = "delay"
    """max_queue_delay was over."""
    DRAIN = "drain"
    """The queue is being emptied for good."""


class BatchPlan:
    """One batch to execute now: the members' keys in order, their rows and bytes, and why it leaves."""

    __slots__ = ("keys", "nbytes", "reason", "rows", "signature")

    def __init__(self, keys: list[int], rows: int, nbytes: int, signature: Hashable, reason: BatchReason) -> None:
        self.keys = keys
        self.rows = rows
        self.nbytes = nbytes
        self.signature = signature
        self.reason = reason

    def __repr__(self) -> str:
        return f"BatchPlan(keys={self.keys}, rows={self.rows}, nbytes={self.nbytes}, reason={self.reason.name})"


class PollResult:
    """What to do now. Every key in `ready`, `expired` and `shed` has left the queue.

    `expired` ran out of time while waiting; `shed` could not have been answered in time. `wake_at` is when to poll
    again if nothing else happens before: later than now, None when time alone changes nothing.
    """

    __slots__ = ("expired", "ready", "shed", "wake_at")

    def __init__(self, ready: list[BatchPlan], expired: list[int], shed: list[int], wake_at: Instant | None) -> None:
        self.ready = ready
        self.expired = expired
        self.shed = shed
        self.wake_at = wake_at

    def __repr__(self) -> str:
        return f"PollResult(ready={self.ready}, expired={self.expired}, shed={self.shed}, wake_at={self.wake_at})"


class RejectionKind(enum.Enum):
    """Why an item was refused at the door."""

    QUEUE_ROWS = "queue_rows"
    QUEUE_BYTES = "queue_bytes"
    NO_ROWS = "no_rows"
    TOO_MANY_ROWS = "too_many_rows"
    CANNOT_FINISH = "cannot_finish"
    EXPIRED = "expired"
    DRAINING = "draining"
    IN_FLIGHT_REQUESTS = "in_flight_requests"
    IN_FLIGHT_BYTES = "in_flight_bytes"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal: its kind, the bound that was hit (rows, bytes or requests; 0 where none applies), and after which
    time trying again is sensible (None where it is not, or where nothing is known yet)."""

    kind: RejectionKind
    limit: int = 0
    retry_after: Nanos | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The bounds of one model version's queue.

    `batchable` False makes every item a batch of its own, of any number of rows. `max_queue_delay` is how long a
    batch that could still grow may be held back while the backend is busy, beside what `staging` holds back.
    `instances` is how many batches the backend executes at once (slots beyond that are staged). An item of
    priority p is ordered as if its deadline were (p - default_priority) * priority_step later. `min_gain_percent` is
    the throughput a larger batch must promise over a smaller one to be worth it; 0 switches that cap off.
    """

    max_rows: int
    batchable: bool = True
    max_batch_bytes: int = 64 << 20
    max_queue_rows: int = 4096
    max_queue_bytes: int = 256 << 20
    max_queue_delay: Nanos = 0
    instances: int = 1
    default_priority: int = 2
    priority_step: Nanos = 1_000_000_000
    min_gain_percent: int = 3
    offsets: tuple[Nanos, ...] = field(init=False, repr=False)
    """The deadline offset of each priority, 0 to MAX_PRIORITY."""

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_batch_bytes", "max_queue_rows", "max_queue_bytes", "instances"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_queue_delay", "priority_step", "min_gain_percent"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 1 <= self.default_priority <= MAX_PRIORITY:
            raise ValueError(f"default_priority must be from 1 to {MAX_PRIORITY}, not {self.default_priority}")
        steps = [0, *(level - self.default_priority for level in range(1, MAX_PRIORITY + 1))]
        object.__setattr__(self, "offsets", tuple(step * self.priority_step for step in steps))
