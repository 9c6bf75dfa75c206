"""When the batch behind a running one leaves: late, so that it is large, and together with the callers that come back.

A batch that is sent while every instance executes does not start earlier for it: it only stops growing. So where
executions take long and larger batches are cheaper, it is held back until shortly before an instance is expected to be
free (*staging*).

Where it pays it waits a moment longer (*gathering*): callers who were just answered often ask again at once, and those
who once travelled in two batches would do so for ever. That leaves an instance idle for a moment, so it is done only
where the profile says that it pays, and only as long as callers do come back: `_luck` counts, and one round in 32 tries
again.

Quick models are left alone: a hold is worth nothing below the grain of timers. All but the briefest, where what a batch
costs the gateway and the backend counts for more than what it executes: there a batch *lingers* behind one that runs
until that one ends, unless it has enough rows, or nobody is left who could join: others have other signatures, or as
many rows are here as were lately at the most. So at a low load, when batches have two or three rows, there are fewer
of them, and the processors have time for each.

Invariants: nothing is held without evidence about what runs, or beside an idle instance but to gather; no hold is
longer than what runs is expected to take, and a quarter of that, and `_MOST`; nothing lingers longer than `BRIEF`.
"""

from __future__ import annotations

from collections.abc import Hashable

from gateway.core.backend_load import BackendLoad
from gateway.core.cost_profile import QUICK, CostProfile
from gateway.core.plans import BatchPlan, QueueItem
from gateway.messages import Instant, Nanos

_LEAD: Nanos = 3_000_000
"""How long before its start a batch leaves: the way to the backend, and timers with a grain of a millisecond …"""
_NANOS_PER_BYTE = 4
"""… and what its bytes take, here and there (measured: 1.4 ns here, as much there), with a margin …"""
_DOUBT = 8
"""… and an eighth of what runs, which may end early."""
_WORTH = 32
"""A larger batch must save this part of what runs: where it saves nothing, a smaller one is answered sooner."""
_SHARE, _LEAST, _MOST = 32, 500_000, 1_000_000
"""Callers may take this part of an execution to come back, within these bounds."""
_MOST_LUCK, _FIRST_LUCK, _TRY_EVERY = 8, 2, 32
BRIEF: Nanos = 2_000_000
"""Below this an execution is brief. Above, the way there, which is not gone while something lingers, costs more than
fewer batches save. Nothing lingers longer either: what runs then takes longer than it should."""
_ENOUGH = 4
"""So many rows leave at once: from there on most of a batch's cost is that of its rows (docs/performance-notes.md)."""
_CROWD_OF = 64
"""How many executions long it is remembered how many rows were here at once."""
_FULL, _ANY = 1 << 59, 1 << 60
"""`_room`, below how many waiting rows an arrival changes nothing, is 0 or few rows; where every slot is taken it is
`_FULL`, and `_ANY` where nothing is known, so that the queue is looked at for every arrival."""
_UNMIXED = 16
"""So many batches in a row must have had one signature: callers of another one cannot join."""


class Staging:
    """Says until when a batch is held back. `cap` is the size beyond which it would not grow."""

    __slots__ = (
        "_came", "_crowd", "_enough", "_executions", "_load", "_luck", "_mixed", "_present", "_profile", "_room",
        "_room_until", "_round", "_row_bytes", "_signature", "_until", "_wanted", "brief", "cap", "quick",
    )  # fmt: skip

    def __init__(self, profile: CostProfile, load: BackendLoad, cap: int) -> None:
        self._profile = profile
        self._load = load
        self.cap = cap
        self.quick = True
        self.brief = False
        self._signature: Hashable = None
        self._mixed = _UNMIXED
        self._round = 0
        self._row_bytes = 0
        self._luck = _FIRST_LUCK
        self._until: Instant = 0
        self._executions = self._crowd = self._present = 0
        self._wanted = self._came = 0
        self._enough = self._room = 0
        self._room_until: Instant = 0

    def consult_profile(self, cap: int) -> None:
        """Takes over what the profile has learned, and the size cap."""
        self.cap = cap
        longest = self._profile.mean(cap)
        self.quick = longest is None or longest < QUICK
        self.brief = longest is not None and longest < BRIEF
        self._executions += 1
        if self._executions >= _CROWD_OF:
            self._executions, self._crowd, self._present = 0, self._present, 0

    def sent(self, plan: BatchPlan, waiting: int) -> None:
        """This batch leaves; `waiting` rows were in the queue, it included."""
        self._room = 0
        self._settle(waiting)
        self._row_bytes = plan.nbytes // max(plan.rows, 1)
        signature = plan.signature
        if signature is not self._signature and signature != self._signature:
            self._signature, self._mixed = signature, _UNMIXED
        elif self._mixed:
            self._mixed -= 1

    def ended(self, rows: int, waiting: int, now: Instant) -> None:
        """Batches with `rows` rows in all have just ended; `waiting` rows are in the queue."""
        self._settle(waiting)
        together = min(self.cap, self._load.share(rows + waiting))
        if self._load.idle and together > waiting and self._pays(rows, waiting):
            self._wanted, self._came = together, waiting
            self._until = now + self._patience(together)
        self._round += 1

    def lingers(self, waiting: int) -> bool:
        """Whether `waiting` rows of a quick model had better be more before they leave behind what runs."""
        load = self._load
        if not self.brief or self._mixed or load.idle:
            return False
        present = load.rows + waiting
        self._present = max(self._present, present)
        # As many as lately at the most: nobody is left to come, as with callers who wait for their answers.
        self._enough = min(max(_ENOUGH, load.typical_rows), max(self._present, self._crowd) - load.rows)
        return waiting < self._enough

    def look(self) -> None:
        """The queue is looked at anew: nothing lingers so far."""
        self._room, self._room_until = _ANY, 0

    def linger(self, until: Instant, deadline: Instant) -> None:
        """A group lingers until then; its first deadline is `deadline`."""
        due = until + (self._profile.high(self.cap) or 0)
        self._room = min(self._room, self._enough, self.cap) if due <= deadline else 0
        self._room_until = max(self._room_until, due)

    def full(self, deadline: Instant, busy: int) -> None:
        """Every slot is taken, `busy` of them by this queue; the first deadline in it is `deadline`."""
        if busy:  # one of its own ends, and somebody looks; that another queue of the version lets go is not heard
            self._room, self._room_until = _FULL, deadline

    def joins(self, item: QueueItem, waiting: int) -> bool:
        """Whether an item that came since only joins what lingers, or waits for a slot, so that there is nothing to
        decide; `waiting` rows are in the queue, it included."""
        if not waiting < self._room < _ANY or item.deadline < self._room_until or item.signature is None:
            return False
        if self._room < _FULL:
            self._present = max(self._present, self._load.rows + waiting)
        return True

    def hold_until(self, rows: int, waiting: int, nbytes: int, now: Instant) -> Instant:
        """Returns until when a batch of `rows` rows and `nbytes` bytes that could grow is held back; `now` or earlier:
        it leaves. `waiting` are the rows in the whole queue."""
        if self._load.idle:
            return self._until if waiting < self._wanted else now
        following = self._load.next_start()
        if following is None:
            return now
        start, first = following
        ahead = self._profile.estimate(first) or 0
        if self._pays(first, rows):
            return start + ahead // 4
        if self._saving(first, rows) * _WORTH < ahead:
            return now
        return start - (_LEAD + ahead // _DOUBT + nbytes * _NANOS_PER_BYTE)

    def _pays(self, rows: int, waiting: int) -> bool:
        """Whether `rows` rows whose callers may come back had better travel with those `waiting`."""
        if self._mixed or not (self._luck or self._round % _TRY_EVERY == 0):
            return False
        together = min(self.cap, rows + waiting)
        patience = self._patience(together)
        # What is staged travels while another batch runs; what gathers beside an idle instance does not.
        way = together * self._row_bytes * _NANOS_PER_BYTE
        return patience >= _LEAST and self._saving(rows, waiting) > patience + way

    def _saving(self, rows: int, waiting: int) -> Nanos:
        """Returns how much less `rows` and `waiting` rows take as one batch than as two, as far as is known; if none
        wait, than if the first to come travelled alone."""
        together = min(self.cap, rows + waiting)
        one = max(waiting, 1)
        if together <= one:
            return 0
        estimate = self._profile.estimate
        first, second, both = estimate(one), estimate(together - one), estimate(together)
        if first is None or second is None or both is None:
            return 0
        return first + second - both

    def _patience(self, together: int) -> Nanos:
        return min((self._profile.estimate(together) or 0) // _SHARE, _MOST)

    def _settle(self, waiting: int) -> None:
        """Judges the gathering that is over: it was worth it if half of those who were answered came back."""
        if self._wanted:
            came = 2 * (waiting - self._came) >= self._wanted - self._came
            self._luck = min(_MOST_LUCK, self._luck + 2) if came else max(0, self._luck - 1)
            self._wanted = 0
