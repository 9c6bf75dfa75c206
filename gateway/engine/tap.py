"""What a scheduler shows of its work while its version is in a release."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from gateway.engine.batch import PendingRequest
from gateway.messages import InferResponse, Instant, Nanos

_log = logging.getLogger("sluice.releases")
SHADOW = "shadow"
"""The protocol label of copies: they are nobody's requests and are counted apart."""


class Tap(Protocol):
    """Called after the callers were answered, on the event loop: implementations are quick."""

    def executed(self, rows: int, elapsed: Nanos, now: Instant, *, beside: bool) -> None:
        """One execution of `rows` rows of live requests ended well at `now`.

        `elapsed` leaves out what it waited behind others. Executions of copies are not told, nor what ran side by side
        with them: they wear the candidate alone. `beside`: another version of the model executed on the same replica
        meanwhile.
        """
        ...

    def answered(self, answers: Sequence[tuple[PendingRequest, InferResponse]], now: Instant) -> None:
        """These members of one batch, one at least, got these answers at `now`, in the order of their rows."""
        ...


def show(tap: Tap, answers: Sequence[tuple[PendingRequest, InferResponse]], now: Instant) -> None:
    """Lets the tap see answers that are out; nothing that it does can hurt a caller."""
    try:
        tap.answered(answers, now)
    except Exception:
        _log.exception("looking at answers")
