"""Answers of a release that wait to be counted and looked at, so that one look serves many requests.

On a gateway that is not full most batches are of one request, and what is done for each then comes out of a cold
cache: counting it and looking at its answer would be a quarter of what the gateway does for it. Invariants: what waits
is bounded in number and bytes, and kept in the order in which it was answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.outcome_matching import Raw
from gateway.engine.batch import PendingRequest
from gateway.messages import InferResponse, Instant, Nanos

ENOUGH_WAITING = 6
"""Answers that make a look worth its while, as soon as nobody waits."""
MOST_WAITING = 16
"""Answers: so long as few wait, they are gone before the garbage collector would look at them."""
_MOST_BYTES = 256 << 10

Answers = Sequence[tuple[PendingRequest, InferResponse]]


class AnsweredBatch:
    """What one version in a release answered at one moment."""

    __slots__ = ("answers", "arm", "at")

    def __init__(self, arm: str, answers: Answers, at: Instant) -> None:
        self.arm = arm
        self.answers = answers
        self.at = at


class AnsweredRun:
    """Requests one after the other that were sent to the same arm and answered by the same."""

    __slots__ = ("answered_by", "answers", "ended", "sent_to", "spans")

    def __init__(self, sent_to: str, answered_by: str) -> None:
        self.sent_to = sent_to
        self.answered_by = answered_by
        self.answers: list[tuple[PendingRequest, InferResponse]] = []
        self.ended: list[Instant] = []
        self.spans: list[Nanos] = []

    def add(self, answers: list[tuple[PendingRequest, InferResponse]], at: Instant) -> None:
        """Adds what was answered at `at`."""
        self.answers += answers
        self.ended += [at] * len(answers)
        self.spans += [at - member.context.received_at for member, _ in answers]


class AnswerNotes:
    """Those that wait."""

    __slots__ = ("_bytes", "_count", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[AnsweredBatch] = []
        self._count = self._bytes = 0

    def add(self, arm: str, answers: Answers, at: Instant) -> bool:
        """Takes a batch that was answered at `at`; returns whether a look is worth its while."""
        self._waiting.append(AnsweredBatch(arm, answers, at))
        self._count += len(answers)
        for member, answer in answers:
            self._bytes += member.nbytes
            for tensor in answer.data:
                self._bytes += len(tensor)
        return self._count >= ENOUGH_WAITING or self._bytes >= _MOST_BYTES

    @property
    def full(self) -> bool:
        """Whether a look cannot wait any longer."""
        return self._count >= MOST_WAITING or self._bytes >= _MOST_BYTES

    def take(self) -> list[AnsweredBatch]:
        """Returns those that wait, the oldest first, and forgets them."""
        waiting, self._waiting = self._waiting, []
        self._count = self._bytes = 0
        return waiting


class SeenAnswer:
    """One answer, with what matters of its request."""

    __slots__ = ("answer", "at", "batchable", "is_candidate", "raw", "request_id", "rows")

    def __init__(
        self, member: PendingRequest, answer: InferResponse, at: Instant, raw: Raw | None, *, is_candidate: bool
    ) -> None:
        """`raw` is what the label can be found out from later, None if that has to be now."""
        self.answer = answer
        self.at = at
        self.batchable = member.checked.batchable
        self.is_candidate = is_candidate
        self.raw = raw
        self.request_id = member.context.request_id
        self.rows = member.checked.rows


def groups_of(seen: Sequence[SeenAnswer]) -> list[list[int]]:
    """Returns the places of answers that one look can serve: one arm's, with equal outputs but for their rows.

    An answer without rows has nothing to look at.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, one in enumerate(seen):
        if one.rows < 1:
            continue
        cut = 1 if one.batchable else 0
        outputs = tuple((spec.name, spec.datatype, spec.shape[cut:]) for spec in one.answer.head.outputs)
        groups.setdefault((one.is_candidate, one.batchable, outputs), []).append(place)
    return list(groups.values())
