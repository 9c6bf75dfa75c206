"""The scheduler of one model version: performs what `core.batching` decides.

Invariants: a request is in `pending` from `submit` until exactly one of answered, failed, withdrawn; a slot is held
exactly while its batch is in flight; no exception of a caller's reply, of a backend or of a merge ends the scheduler;
every deadline fires on its own, queued or running. Decisions are taken once per event-loop turn (`Turn`), so that all
requests that arrived together can leave together, and where something may come of them (`Batcher.joins`); how long
somebody waits beside a free slot is the batcher's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache, merge, split
from gateway.core.plans import BatchPlan, QueueItem
from gateway.core.signature import CheckedHead
from gateway.engine.batch import Batch, PendingRequest
from gateway.engine.earliest_timer import EarliestTimer
from gateway.engine.flights import Flights
from gateway.engine.outstanding import PendingTable
from gateway.engine.refusals import expired, internal, refusal, shed, unreachable
from gateway.engine.repeats import Repeats
from gateway.engine.replicas import Replica
from gateway.engine.reports import report, report_answered
from gateway.engine.tap import SHADOW, Tap, show
from gateway.engine.turns import Turn
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, InferResponse, Instant, RequestContext
from gateway.ports import BackendRequest, BackendResponse, Clock, Observer, Reply
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.scheduler")


class VersionScheduler:
    """Queues, batches and sends the requests of one version and answers each caller on its own."""

    def __init__(
        self,
        version: ModelVersion,
        batcher: Batcher,
        profile: CostProfile,
        flights: Flights,
        clock: Clock,
        observer: Observer,
        heads: HeadCache,
        on_dead: Callable[[ModelVersion, Replica], None],
    ) -> None:
        """`on_dead` hears that a replica's copy of the version no longer answers and must be loaded again."""
        self.version = version
        self.batcher = batcher
        self.profile = profile
        self.pending = PendingTable()
        self.in_flight = flights.batches
        self.flights = flights
        self._on_dead = on_dead
        self._clock = clock
        self._observer = observer
        self._heads = heads
        self._public = (version.model_name, str(version.number))
        self._next_key = 0
        self._turn = Turn(clock, self._decide)
        self._timer = EarliestTimer(clock, self.wake)
        self._repeats = Repeats()
        self.tap: Tap | None = None  # sees executions and answers while the version is in a release

    # ------------------------------------------------------------------ callers

    def submit(
        self, request: InferRequest, context: RequestContext, reply: Reply, checked: CheckedHead, nbytes: int
    ) -> PendingRequest:
        """Queues one validated request.

        Raises:
            GatewayError: it was refused at the door (queue bound, cannot finish in time, draining).
        """
        key = self._next_key = self._next_key + 1
        now = self._clock.now()
        item = QueueItem(key, checked.rows, nbytes, checked.signature, now, context.deadline, context.priority)
        if self.batcher.pace.late:
            self.batcher.pace.turns_take(self._turn.delay.at(now))
        rejection = self.batcher.offer(item, now)
        if rejection is not None:
            self.wake()  # that how late the loop is stays known while everything is refused
            raise refusal(self.version.model_name, rejection)
        pending = PendingRequest(key, request, context, reply, checked, nbytes, self)
        pending.dispatched_at = now
        self.pending.admit(pending)
        if self.batcher.joins(item):
            self._turn.note(now)
        else:
            self.wake()
        return pending

    def withdraw(self, pending: PendingRequest) -> None:
        """Forgets a request whose caller left; cancels the backend call when nobody is left in its batch."""
        if not self.pending.drop(pending):
            return
        report(self._observer, self.version, pending, ErrorCode.CANCELLED, "the caller left", self._clock.now())
        batch = pending.batch
        if batch is None:
            self.batcher.withdraw(pending.key)
        else:
            self._leave(batch, pending)
        self.wake()

    @property
    def batch_sizes(self) -> set[int]:
        """Sizes (rows) that batches of this version have had."""
        return self.flights.sizes

    def wake(self) -> None:
        """Asks for one decision at the end of this event-loop turn; repeated calls cost nothing."""
        self._turn.ask()

    def drain(self) -> None:
        """Takes nothing new; what waits leaves as soon as slots allow."""
        self.batcher.drain()
        self.wake()

    def forget(self) -> None:
        """The version is gone: lets go of what outlives this scheduler."""
        self._heads.forget(self._public)
        self._timer.cancel()

    def fail_all(self, error: GatewayError) -> None:
        """Answers everything queued and in flight with `error` (the backend is gone for good)."""
        now = self._clock.now()
        for batch in list(self.in_flight):
            self.flights.end(batch, now)
            if batch.call is not None:
                batch.call.cancel()
        self._repeats.clear()
        for pending in list(self.pending.values()):
            self.batcher.withdraw(pending.key)
            self._fail(pending, error, now)

    # ------------------------------------------------------------------ decisions

    def _decide(self, now: Instant) -> None:
        self.batcher.pace.turns_take(self._turn.delay.at(now))
        try:
            self._expire_in_flight(now)
            released_at = self.flights.release_due(now)
            free = self.flights.free()
            while free and (again := self._repeats.next()) is not None:
                self._send(again, now)
                free -= 1
            flights = self.flights
            result = self.batcher.poll(
                now, free, len(self.in_flight), starving=flights.starving(), usable=flights.usable()
            )  # fmt: skip
            for key in result.expired:
                self._fail(self.pending[key], expired("while queued"), now)
            for pending in [self.pending[key] for key in result.shed]:
                self._fail(pending, shed(now - pending.dispatched_at, pending.context.deadline - now), now)
            for plan in result.ready:
                self._dispatch(plan, now)
            wake_at = result.wake_at
            if released_at is not None and (wake_at is None or released_at < wake_at):
                wake_at = released_at
            self._arm(wake_at, now)
        except Exception:
            # A bug here must not end the loop that answers everybody else: report it, and look again soon.
            _log.exception("scheduler of %s", self.version)
            self._arm(now + 10_000_000, now)

    def _arm(self, wake_at: Instant | None, now: Instant) -> None:
        """Keeps one timer at or before the next instant of interest; an early wake-up only looks again."""
        for batch in (*self.in_flight, *self._repeats.waiting):
            if batch.waiting and (wake_at is None or batch.deadline < wake_at):
                wake_at = batch.deadline
        if wake_at is not None:
            self._timer.arm(wake_at)

    def _expire_in_flight(self, now: Instant) -> None:
        for batch in [batch for batch in (*self.in_flight, *self._repeats.waiting) if batch.deadline <= now]:
            for pending in [member for member in batch.waiting.values() if member.context.deadline <= now]:
                self._fail(pending, expired("while running"), now)
                self._leave(batch, pending)
            if batch.waiting:
                batch.deadline = min(member.context.deadline for member in batch.waiting.values())

    # ------------------------------------------------------------------ sending

    def _dispatch(self, plan: BatchPlan, now: Instant) -> None:
        members = [self.pending[key] for key in plan.keys]
        deadline = members[0].context.deadline
        for member in members:
            member.dispatched_at = now
            if member.context.deadline < deadline:
                deadline = member.context.deadline
        self._repeats.dispatched(len(members))
        self._send(Batch(members, plan.rows, plan.reason.value, deadline), now)

    def _send(self, batch: Batch, now: Instant) -> None:
        for member in batch.members:
            member.batch = batch
        replica = self.flights.take(batch, now)
        if replica is None:
            self._fail_batch(batch, unreachable(), now)
            self.wake()
            return
        if self.tap is not None:
            batch.copies = any(member.context.protocol is SHADOW for member in batch.members)
            replica.mark_beside(self.version, batch)
        first = batch.members[0]
        try:
            _, shapes, chunks = merge([(member.checked, member.request) for member in batch.members])
            last = max(member.context.deadline for member in batch.members)
            request = BackendRequest(self.version, first.request.head, batch.rows, shapes, chunks, last - now)
            batch.call = replica.backend.infer(request, lambda outcome: self._done(batch, outcome))
        except GatewayError as error:
            self.flights.end(batch, now)
            self._failed(batch, error, now)
            self.wake()
        except Exception:
            _log.exception("sending a batch of %s", self.version)
            self.flights.end(batch, now)
            self._fail_batch(batch, internal(), now)
            self.wake()

    def _done(self, batch: Batch, outcome: BackendResponse | GatewayError) -> None:
        """The backend answered `batch`: exactly one call per batch that was sent and not cancelled."""
        if batch not in self.in_flight:
            return
        now = self._clock.now()
        executed = self.flights.end(batch, now)
        elapsed = now - batch.sent_at
        ok = isinstance(outcome, BackendResponse)
        try:
            self._observer.batch_done(self.version, len(batch.members), batch.rows, batch.reason, elapsed, ok)
            if isinstance(outcome, GatewayError):
                self._failed(batch, outcome, now)
            else:
                if executed is not None and self._turn.tells(executed, self.profile.mean(batch.rows), now):
                    self.profile.observe(batch.rows, executed)
                    if self.tap is not None and not batch.copies:
                        self.tap.executed(batch.rows, executed, now, beside=batch.beside)
                self._answer(batch, outcome, now)
        except GatewayError as error:
            self._failed(batch, error, now)
        except Exception:
            _log.exception("answering a batch of %s", self.version)
            self._fail_batch(batch, internal(), now)
        batch.dissolve()
        self.wake()

    def _answer(self, batch: Batch, outcome: BackendResponse, now: Instant) -> None:
        members = batch.members
        rows = [member.checked.rows for member in members]
        parts = split(outcome, rows, self._public, self._heads, batchable=members[0].checked.batchable)
        self._repeats.succeeded(batch)
        waiting, pending_table = batch.waiting, self.pending
        answered: list[tuple[PendingRequest, InferResponse]] = []
        contexts: list[RequestContext] = []
        done: list[int] = []
        nbytes = 0
        for member, (head, data) in zip(members, parts, strict=True):
            key = member.key
            if key not in waiting:
                continue
            del pending_table[key]
            nbytes += member.nbytes
            response = InferResponse(head, member.request.id, data)
            try:
                member.reply.succeed(response)
            except Exception:
                _log.exception("answering one caller of %s", self.version)
                self._answer_badly(member, internal())
                continue
            contexts.append(member.context)
            done.append(member.checked.rows)
            if self.tap is not None:
                answered.append((member, response))
        pending_table.took(len(waiting), nbytes)
        report_answered(self._observer, self.version, contexts, done, members[0].dispatched_at, now)
        if self.tap is not None and answered:
            show(self.tap, answered, now)

    # ------------------------------------------------------------------ failures

    def _failed(self, batch: Batch, error: GatewayError, now: Instant) -> None:
        """A batch failed: arrange for its repetition, or fail whoever still waits for it."""
        if error.needs_reload and batch.replica is not None:
            self._on_dead(self.version, batch.replica)
        if batch.waiting:
            reachable = self.flights.replicas.reachable(self.version)
            final = self._repeats.after(batch, error, reachable=reachable)
            if final is not None:
                self._fail_batch(batch, final, now)

    def _fail_batch(self, batch: Batch, error: GatewayError, now: Instant) -> None:
        for pending in list(batch.waiting.values()):
            self._fail(pending, error, now)

    def _fail(self, pending: PendingRequest, error: GatewayError, now: Instant) -> None:
        if self.pending.drop(pending):
            report(self._observer, self.version, pending, error.code, error.message, now)
            self._answer_badly(pending, error)

    def _answer_badly(self, pending: PendingRequest, error: GatewayError) -> None:
        """Tells one caller of a failure; without effect on one that was answered or has left."""
        if error.code is ErrorCode.INTERNAL:
            error = internal(pending.context.request_id)
        try:
            pending.reply.fail(error)
        except Exception:
            _log.exception("failing one caller of %s", self.version)

    def _leave(self, batch: Batch, pending: PendingRequest) -> None:
        batch.waiting.pop(pending.key, None)
        if not batch.waiting and batch in self.in_flight:
            self.flights.abandon(batch, self._clock.now(), self.profile.high(batch.rows))
            if batch.call is not None:
                batch.call.cancel()
            batch.dissolve()
