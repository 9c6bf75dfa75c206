"""A batch on its way: the requests in it, why it left, and the backend call that carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.signature import CheckedHead
from gateway.messages import InferRequest, Instant, RequestContext
from gateway.ports import Cancellable, Reply

if TYPE_CHECKING:
    from gateway.engine.replicas import Replica
    from gateway.engine.scheduler import VersionScheduler


class PendingRequest:
    """One admitted request, from submission to its answer; also the caller's handle to withdraw it.

    Being in its scheduler's `pending` table is the lease that keeps the version loaded.
    """

    __slots__ = ("batch", "checked", "context", "dispatched_at", "key", "nbytes", "reply", "request", "scheduler")

    def __init__(
        self,
        key: int,
        request: InferRequest,
        context: RequestContext,
        reply: Reply,
        checked: CheckedHead,
        nbytes: int,
        scheduler: VersionScheduler,
    ) -> None:
        self.key = key
        self.request = request
        self.context = context
        self.reply = reply
        self.checked = checked
        self.nbytes = nbytes
        self.scheduler = scheduler
        self.batch: Batch | None = None
        self.dispatched_at: Instant = 0

    def withdraw(self) -> None:
        """The caller left: nothing more is owed to it. Harmless when the answer is already out."""
        self.scheduler.withdraw(self)


class Batch:
    """Requests that execute together. `members` keeps the order in which their rows were merged.

    `waiting` are the members that still want an answer; a member that expired or left is taken out of it but keeps its
    place in `members`, because its rows come back all the same.
    """

    __slots__ = (
        "attempt",
        "beside",
        "call",
        "copies",
        "deadline",
        "members",
        "reason",
        "replica",
        "rows",
        "sent_at",
        "waiting",
    )

    def __init__(self, members: list[PendingRequest], rows: int, reason: str, deadline: Instant) -> None:
        self.members = members
        self.waiting: dict[int, PendingRequest] = {member.key: member for member in members}
        self.rows = rows
        self.reason = reason
        self.deadline = deadline
        self.attempt = 1
        self.beside = False
        """Whether another version of the model executed on the same replica meanwhile."""
        self.copies = False
        """Whether copies of a release executed on the same replica meanwhile, or these are some."""
        self.sent_at: Instant = 0
        self.replica: Replica | None = None
        self.call: Cancellable | None = None

    def dissolve(self) -> None:
        """Lets go of the members once nothing more is owed to them here: otherwise only the collector would."""
        self.members = []
        self.waiting = {}
        self.call = None
