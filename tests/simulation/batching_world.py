"""A seeded world around one Batcher: arrivals, cancellations, a backend with slots, a clock that only events move.

The world does exactly what the batcher says and nothing else: it polls after arrivals (unless they only join what is
held back), completions, withdrawals and at `wake_at`. It checks on every step what must always hold, and at the end
that every item ended exactly once.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits, BatchPlan, BatchReason, QueueItem
from gateway.core.service_time import ServiceTimer

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000


@dataclass(kw_only=True)
class Scenario:
    """What a world is like; `rate` in items per second, spans in nanoseconds, `signatures` are drawn Zipf-like."""

    items: int = 2000
    limits: BatchLimits = field(default_factory=lambda: BatchLimits(max_rows=16))
    slots: int = 2
    rate: int = 2000
    burst: int = 1
    rows: tuple[int, ...] = (1,)
    signatures: int = 1
    timeouts: tuple[int, ...] = (SECOND,)
    priorities: tuple[int, ...] = (0,)
    nbytes: int = 100
    cancel_percent: int = 0
    cost: Callable[[int], int] = lambda rows: 2 * MS + rows * 100 * US
    jitter_percent: int = 0
    travel: int = 0
    """How long a batch is on its way to the backend, and its answer back …"""
    travel_per_byte: float = 0.0
    """… and how much longer for each of its bytes, on the way there."""
    fail_percent: int = 0
    drain_at_percent: int | None = None
    outage: tuple[int, int, int] | None = None
    """(from, to, factor): executions begun in between take `factor` times as long."""
    check_every: int = 50


class World:
    """Runs one scenario to its end; `trace` is everything that was decided, `outcomes` how every item ended."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.rng = random.Random(seed)
        self.profile = CostProfile()
        self.batcher = Batcher(scenario.limits, self.profile)
        self.timer = ServiceTimer(scenario.limits.instances)
        self.now = 0
        self.items: dict[int, QueueItem] = {}
        self.waiting: dict[int, QueueItem] = {}
        self.due: list[tuple[int, int]] = []
        self.outcomes: dict[int, str] = {}
        self.answered: dict[int, int] = {}
        self.in_time = 0
        self.rejections: Counter[str] = Counter()
        self.reasons: Counter[BatchReason] = Counter()
        self.plans: list[BatchPlan] = []
        self.waited: dict[int, int] = {}
        self.trace: list[object] = []
        self.running: dict[int, BatchPlan] = {}
        self.longest = 0
        self.ended_at = 0
        self.free_at = [0] * scenario.limits.instances
        self.events: list[tuple[int, int, str, object]] = []
        self.sequence = 0
        self.timer_at: int | None = None
        self.polls = 0
        self.stirred = False

    def run(self) -> World:
        self._at(0, "arrive", 0)
        while self.events:
            when, _, kind, what = heappop(self.events)
            if kind == "timer" and when != self.timer_at:
                continue  # it was re-armed
            assert when >= self.now
            self.now = when
            getattr(self, "_" + kind)(what)
            self.stirred |= kind != "arrive"
            # Everything that happens at one instant is one turn of the event loop: one poll for all of it.
            if self.stirred and (not self.events or self.events[0][0] > when):
                self.stirred = False
                self._poll()
        assert len(self.batcher) == 0, f"{len(self.batcher)} items are stuck"
        assert self.batcher.queued_rows == self.batcher.queued_bytes == 0
        assert len(self.outcomes) == len(self.items), "every item ends"
        self.batcher.check_invariants()
        return self

    def count(self, outcome: str) -> int:
        return sum(found == outcome for found in self.outcomes.values())

    def _at(self, when: int, kind: str, what: object) -> None:
        self.sequence += 1
        heappush(self.events, (when, self.sequence, kind, what))

    def _end(self, key: int, outcome: str) -> None:
        assert key in self.items, f"item {key} was never offered"
        assert key not in self.outcomes, f"item {key} ended as {self.outcomes[key]} and as {outcome}"
        self.outcomes[key] = outcome
        self.waiting.pop(key, None)

    def _arrive(self, made: object) -> None:
        scenario, rng = self.scenario, self.rng
        assert isinstance(made, int)
        for key in range(made, min(made + rng.randint(1, scenario.burst), scenario.items)):
            signature = min(rng.randrange(scenario.signatures), rng.randrange(scenario.signatures))
            item = QueueItem(
                key,
                rng.choice(scenario.rows),
                rng.randint(0, 2 * scenario.nbytes),
                f"s{signature}",
                self.now,
                self.now + rng.choice(scenario.timeouts),
                rng.choice(scenario.priorities),
            )
            self.items[key] = item
            rejection = self.batcher.offer(item, self.now)
            if rejection is not None:
                self.rejections[rejection.kind.value] += 1
                self._end(key, "rejected")
            else:
                self.waiting[key] = item
                heappush(self.due, (item.deadline, key))
                self.stirred |= not self._joins(item)
                if rng.randrange(100) < scenario.cancel_percent:
                    self._at(self.now + rng.randint(0, 20 * MS), "leave", key)
            made = key + 1
            if scenario.drain_at_percent is not None and made * 100 == scenario.items * scenario.drain_at_percent:
                self.batcher.drain()
        if made < scenario.items:
            gap = rng.expovariate(scenario.rate * 2 / (1 + scenario.burst))
            self._at(self.now + int(gap * SECOND), "arrive", made)

    def _leave(self, key: object) -> None:
        assert isinstance(key, int)
        waiting = key not in self.outcomes
        assert self.batcher.withdraw(key) == waiting, "withdraw says whether the item was waiting"
        if waiting:
            self._end(key, "withdrawn")

    def _joins(self, item: QueueItem) -> bool:
        """Whether the batcher need not be asked because of `item`."""
        return self.batcher.joins(item)

    def _timer(self, _: object) -> None:
        self.timer_at = None

    def _done(self, token: object) -> None:
        assert isinstance(token, int)
        plan = self.running.pop(token)
        elapsed = self.timer.finished(token, self.now)
        self.ended_at = self.now
        self.longest = max(self.longest, elapsed or 0)
        if self.rng.randrange(100) < self.scenario.fail_percent:
            return
        assert elapsed is not None
        self.profile.observe(plan.rows, elapsed)
        self.answered.update(dict.fromkeys(plan.keys, self.now))
        self.in_time += sum(self.items[key].rows for key in plan.keys if self.now <= self.items[key].deadline)

    def _poll(self) -> None:
        busy = len(self.running)
        free = self.scenario.slots - busy
        result = self.batcher.poll(self.now, free, busy)
        self.polls += 1
        assert len(result.ready) <= free, "no plan without a slot"
        for key in result.expired:
            assert self.items[key].deadline <= self.now, "nothing expires early"
            self._end(key, "expired")
        for key in result.shed:
            assert self.profile.count, "nothing is shed without evidence"
            self._end(key, "shed")
        for plan in result.ready:
            self._send(plan)
        wake_at = result.wake_at
        assert wake_at is None or wake_at > self.now, "wake_at is later than now"
        still_free = self.scenario.slots - len(self.running)
        if len(self.batcher):
            assert wake_at is not None, "an expiry is pending"
            while self.due[0][1] not in self.waiting:
                heappop(self.due)
            assert self.now < self.due[0][0], "what has expired is gone"
            assert wake_at <= self.due[0][0], "no expiry is missed"
            if still_free:
                self._check_hold(wake_at)
        if self.polls % self.scenario.check_every == 0:
            self.batcher.check_invariants()
        self.trace.append((self.now, [plan.keys for plan in result.ready], result.expired, result.shed, wake_at))
        if wake_at is not None and wake_at != self.timer_at:
            self.timer_at = wake_at
            self._at(wake_at, "timer", None)

    def _check_hold(self, wake_at: int) -> None:
        """Work waits beside a free slot: for a max_queue_delay, for callers who were just answered, or because every
        instance is busy with something that takes long."""
        limits = self.scenario.limits
        delay = limits.max_queue_delay if self.running else 0
        if len(self.running) < limits.instances:
            assert self.profile.count or delay, "work waits beside an idle backend without evidence"
            assert wake_at <= max(self.now + delay, self.ended_at + 2 * MS), "an idle backend waits for a moment only"
        elif not delay:
            rows = sum(self.items[key].rows for key in self.waiting)
            running = [plan.rows for plan in self.running.values()]
            brief = self.profile.count > 0 and rows < max(4, -(-sum(running) // len(running)))
            assert self.longest >= 8 * MS or brief, "a quick model's batch does not wait once it is large"
        span = max(limits.max_queue_delay, 2 * len(self.running) * self.longest, 2 * MS)
        assert wake_at <= self.now + span, "a hold is bounded"

    def _send(self, plan: BatchPlan) -> None:
        limits = self.scenario.limits
        members = [self.items[key] for key in plan.keys]
        assert members, "no empty plan"
        assert plan.rows == sum(item.rows for item in members)
        assert plan.nbytes == sum(item.nbytes for item in members)
        assert all(item.signature == plan.signature for item in members), "one signature per plan"
        if limits.batchable:
            assert plan.rows <= limits.max_rows, "row bound"
        else:
            assert len(members) == 1, "unbatched"
        assert len(members) == 1 or plan.nbytes <= limits.max_batch_bytes, "byte bound"
        for item in members:
            assert item.deadline > self.now, "nothing expired is sent"
            self._end(item.key, "ready")
            self.waited[item.key] = self.now - item.enqueued_at
        self.plans.append(plan)
        self.reasons[plan.reason] += 1
        scenario, token = self.scenario, len(self.plans)
        instance = min(range(len(self.free_at)), key=self.free_at.__getitem__)
        arrives = self.now + scenario.travel + int(plan.nbytes * scenario.travel_per_byte)
        begin = max(arrives, self.free_at[instance])
        cost = scenario.cost(plan.rows)
        cost += cost * self.rng.randint(0, scenario.jitter_percent) // 100
        if scenario.outage is not None and scenario.outage[0] <= begin < scenario.outage[1]:
            cost *= scenario.outage[2]
        self.free_at[instance] = begin + cost
        self.running[token] = plan
        self.timer.sent(token, self.now)
        self._at(begin + cost + scenario.travel, "done", token)
