"""Copies of requests that stable has answered, run on the candidate in spare time and compared.

Invariants: a copy is answered to nobody; what waits is bounded in number and bytes, and what is not run is counted with
its reason; at most one batch of copies is under way, and none while live work wants the candidate or waits anywhere
(`core.spare`); nothing here can fail a caller.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping

from gateway.core.routing import bucket
from gateway.core.spare import LiveWork, SpareTime
from gateway.engine.answer_notes import Answers
from gateway.engine.batch import PendingRequest
from gateway.engine.served import ServedVersion
from gateway.engine.tap import SHADOW
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, InferResponse, Instant, Nanos, RequestContext
from gateway.ports import Cancellable, Clock
from gateway.releases import ReleasePlan
from gateway.routes import BUCKETS
from gateway.versions import VersionState

_log = logging.getLogger("sluice.releases")
MOST_COPIES = 256
MOST_BYTES = 32 << 20
_PATIENCE: Nanos = 10_000_000_000
_LEAST_URGENT = 8
_CANDIDATES_FAULT = frozenset({ErrorCode.BACKEND_FAILED, ErrorCode.INTERNAL, ErrorCode.INVALID_REQUEST})


class Copy:
    """One request with stable's answer, and the candidate's once it has one. Also the reply of the copy."""

    __slots__ = ("answer", "batchable", "done", "error", "nbytes", "request", "request_id", "rows", "segment", "stable")

    def __init__(
        self, member: PendingRequest, stable: InferResponse, nbytes: int, segment: str, done: Callable[[Copy], None]
    ) -> None:
        self.request: InferRequest = member.request
        self.request_id = member.context.request_id
        self.rows = member.checked.rows
        self.batchable = member.checked.batchable
        self.stable = stable
        self.nbytes = nbytes
        self.segment = segment
        self.answer: InferResponse | None = None
        self.error: GatewayError | None = None
        self.done = done

    def succeed(self, response: InferResponse) -> None:
        self.answer = response
        self.done(self)

    def fail(self, error: GatewayError) -> None:
        self.error = error
        self.done(self)


class Shadow:
    """Owns the copies of one release that wait or run.

    `compare` takes those that both versions have answered; `fetch` offers what was answered and not offered yet.
    """

    def __init__(
        self,
        plan: ReleasePlan,
        clock: Clock,
        candidate: Callable[[], ServedVersion | None],
        live: Callable[[], LiveWork],
        compare: Callable[[list[Copy]], None],
        fetch: Callable[[], None],
        spare: SpareTime | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._candidate = candidate
        self._live = live
        self._compare = compare
        self._fetch = fetch
        self._spare = spare or SpareTime()
        self._segment = plan.segment_header.encode("latin-1", "replace")
        self._salt = f"{plan.salt}/copies"
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._running = 0
        self._ready: list[Copy] = []
        self._timer: Cancellable | None = None
        self._closed = False
        self.copies = 0
        """Copies that the candidate was given."""
        self.drops: dict[str, int] = {}
        """Copies that were not run, by reason."""

    def lived(self, at: Instant) -> None:
        """A live request was dispatched at `at` and answered: told at once, though it may be offered later."""
        self._spare.lived(at)
        if not self._running and not self._closed:
            self._arm()

    def offer(self, answers: Answers) -> None:
        """Takes copies of requests that stable has answered, as far as they are in the sample and there is room."""
        share = self._plan.shadow_share
        if share < BUCKETS:
            # By the request's id and a salt of its own: the sample is independent of the split.
            salt = self._salt
            answers = [one for one in answers if bucket(salt, one[0].context.request_id) < share]
        for index, (member, stable) in enumerate(answers):
            if not self.has_room:
                self._drop("no_room", len(answers) - index)
                break
            self._take(member, stable)
        if self._waiting and not self._running:
            self._arm()

    def _take(self, member: PendingRequest, stable: InferResponse) -> None:
        nbytes = member.nbytes + sum(map(len, stable.data))
        if self._bytes + nbytes > MOST_BYTES:
            self._drop("too_many_bytes")
            return
        segment = self._segment_of(member.context.headers) if self._segment else ""
        self._waiting.append(Copy(member, stable, nbytes, segment, self._done))
        self._bytes += nbytes

    @property
    def has_room(self) -> bool:
        """Whether one more copy could wait."""
        return not self._closed and len(self._waiting) < MOST_COPIES

    @property
    def running(self) -> int:
        """Copies that the candidate has and has not answered."""
        return self._running

    def close(self) -> None:
        """The release is over: nothing more is copied."""
        self._closed = True
        if self._waiting:
            self._drop("release_over", len(self._waiting))
        self._waiting.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _segment_of(self, headers: Mapping[bytes, bytes] | None) -> str:
        value = headers.get(self._segment) if headers else None
        return value[:64].decode("latin-1") if value else ""

    def _drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count

    # ------------------------------------------------------------------ running

    def _arm(self) -> None:
        if self._timer is not None:
            return
        now = self._clock.now()
        self._timer = self._clock.call_at(self._spare.next_look(now, waiting=bool(self._waiting)), self._look)

    def _look(self) -> None:
        """Sends a batch of copies if there is spare time, otherwise looks again later."""
        self._timer = None
        if not self._waiting:
            self._fetch()
        if self._closed or self._running or not self._waiting:
            return
        served = self._candidate()
        if served is None or served.state is not VersionState.READY:
            self._arm()
            return
        most = served.scheduler.batcher.max_rows if served.metadata.max_batch_size > 0 else 1
        rows = self._spare.rows(self._live(), self._clock.now(), most)
        if rows > 0:
            self._send(served, rows)
        if not self._running and self._waiting:
            self._arm()

    def _send(self, served: ServedVersion, rows: int) -> None:
        sent: list[Copy] = []
        while self._waiting and (not sent or rows >= self._waiting[0].rows):
            copy = self._waiting.popleft()
            self._bytes -= copy.nbytes
            rows -= copy.rows
            sent.append(copy)
        now = self._clock.now()
        self._spare.began(now)
        self._running = len(sent)
        for copy in sent:
            context = RequestContext(copy.request_id, now, now + _PATIENCE, SHADOW, _LEAST_URGENT)
            try:
                checked = served.check(copy.request.head)
                self.copies += 1
                served.scheduler.submit(copy.request, context, copy, checked, copy.nbytes)
            except GatewayError as error:
                copy.fail(error)

    def _done(self, copy: Copy) -> None:
        self._running -= 1
        error = copy.error
        if error is None or error.code in _CANDIDATES_FAULT:
            self._ready.append(copy)
        else:
            self._drop("not_answered")
        if self._running == 0:
            self._clock.call_soon(self._finish)

    def _finish(self) -> None:
        ready, self._ready = self._ready, []
        if ready and not self._closed:
            try:
                self._compare(ready)
            except Exception:
                _log.exception("comparing answers of %s", self._plan.model_name)
        # Comparing counts as the copies' time too: it is done on the loop that live requests wait for.
        self._spare.ended(self._clock.now())
        if self._waiting and not self._running and not self._closed:
            self._arm()
