"""What a scheduler shows of its work while its version is in a release."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from gateway.engine.batch import PendingRequest
from gateway.messages import InferResponse, Nanos

_log = logging.getLogger("sluice.releases")
SHADOW = "shadow"
"""The protocol label of copies: they are nobody's requests and are counted apart."""


class Tap(Protocol):
    """Called after the callers were answered, on the event loop: implementations are quick."""

    def executed(self, rows: int, elapsed: Nanos, *, beside: bool) -> None:
        """One execution of `rows` rows of live requests ended well; `elapsed` leaves out what it waited behind others.

        Executions of copies are not told, nor what ran side by side with them: they wear the candidate alone. `beside`:
        another version of the model executed on the same replica meanwhile.
        """
        ...

    def answered(self, answers: Sequence[tuple[PendingRequest, InferResponse]]) -> None:
        """These members of one batch got these answers, in the order of their rows."""
        ...


def show(tap: Tap, answers: Sequence[tuple[PendingRequest, InferResponse]]) -> None:
    """Lets the tap see answers that are out; nothing that it does can hurt a caller."""
    try:
        tap.answered(answers)
    except Exception:
        _log.exception("looking at answers")
