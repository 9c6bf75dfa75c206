"""The runner: takes jobs, starts them when there is room, and settles how they end.

Decides nothing that `queueing` and `states` do not say; owns the tasks, one for each running attempt. Invariants: an
attempt is on record before anything is started; a job is in exactly one of waiting, active and ended; the runner may be
killed at any instant, and the one that comes after goes on from the store and the attempts' folders.
Closing the runner leaves what runs running.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jobs import clock, contract, files, inputs, launching, slots
from jobs.documents import JobError
from jobs.errors import Refused
from jobs.executors.port import Executor, Handle
from jobs.job import Job
from jobs.job_loading import to_document
from jobs.queueing import Running, choose
from jobs.slots import RunnerSettings
from jobs.state_folder import StateFolder
from jobs.states import Ended, JobState, Reason, next_of, reason_of
from jobs.store import Attempt, JobRecord, Store

_log = logging.getLogger("sluice.jobs")
_T = TypeVar("_T")
_AGAIN_S = 1.0


@dataclass(slots=True)
class _Active:
    """A job with an attempt under way."""

    record: JobRecord
    gpus: tuple[int, ...]
    attempt: Attempt | None = None
    handle: Handle | None = None
    giving_way: bool = False

    def queued(self) -> Running:
        return slots.running(self.record, stoppable=self.handle is not None, giving_way=self.giving_way)


class Runner:
    """Owns the store, the queue and the running attempts. Use `run` as a task; the other methods from the same loop."""

    def __init__(
        self, state: StateFolder, store: Store, executor: Executor, settings: RunnerSettings, *, only: int | None = None
    ) -> None:
        """With `only`, no other job is started (those that run already are looked after all the same)."""
        self._state, self._store = state, store
        self._executor = executor
        self._settings = settings
        self._only = only
        self._waiting: dict[int, JobRecord] = {}
        self._active: dict[int, _Active] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self.trouble = ""

    async def run(self) -> None:
        """Recovers what an earlier runner left, then works until `close`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._recover(group)
                while not self._closing.is_set():
                    self._wake.clear()
                    wait = self._poll(group)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._wake.wait()
                raise _Closed
        except* _Closed:
            pass

    def close(self) -> None:
        """Ends `run`; jobs go on under their keepers."""
        self._closing.set()
        self._wake.set()
        self._announce()

    def _recover(self, group: asyncio.TaskGroup) -> None:
        for record in reversed(self._store.jobs((JobState.QUEUED, JobState.RUNNING))):
            if record.state is JobState.QUEUED:
                self._waiting[record.id] = record
                continue
            attempt = self._store.attempts(record.id)[-1]
            handle = self._executor.find(self._state.attempt(record.id, attempt.number), attempt.token)
            active = _Active(record, attempt.gpus, attempt, handle)
            self._active[record.id] = active
            if record.cancel_asked:
                self._stop(active, contract.CANCEL)
            group.create_task(self._guard(active, self._watch(active, attempt, handle)))

    def only(self, number: int) -> None:
        """Starts no other job from here on (0: none at all)."""
        self._only = number
        self._wake.set()

    async def submit(self, job: Job, *, key: str | None = None, owner: str = "") -> tuple[JobRecord, bool]:
        """Returns the job's record and whether it is new.

        Raises:
            JobError: it cannot be run here; KeyConflict: the key belongs to another job.
        """
        if problems := slots.too_large(job, self._settings):
            raise JobError(problems)
        submitted_as = json.dumps(to_document(job), sort_keys=True)
        resolved = await asyncio.to_thread(inputs.resolve, job)
        code = await asyncio.to_thread(launching.code_version, Path(job.folder))
        who = job.owner or owner or getpass.getuser()
        record, new = self._store.submit(resolved, submitted_as, who, key, code, clock.wall())
        if new:
            self._waiting[record.id] = record
            self._wake.set()
            self._announce()
        return record, new

    def cancel(self, number: int, *, grace_s: float | None = None) -> JobRecord:
        """Cancels a job; one that runs gets its grace (or `grace_s`). One that has ended stays as it is."""
        record = self._store.known(number)
        if record.state.final:
            return record
        record = self._store.ask_cancel(number, clock.wall())
        self._waiting.pop(number, None)
        if (active := self._active.get(number)) is not None:
            self._stop(active, contract.CANCEL, grace_s)
        self._announce()
        return record

    def resume(self, number: int) -> JobRecord:
        """Queues a job again that failed or was cancelled; it finds its checkpoints. Raises Refused."""
        record = self._store.known(number)
        if record.state not in (JobState.FAILED, JobState.CANCELLED):
            raise Refused(f"job {number} is {record.state}; only a failed or cancelled job can be resumed")
        record = self._store.resume(number, clock.wall())
        self._waiting[number] = record
        self._wake.set()
        self._announce()
        return record

    def preempt(self, number: int, *, evict: bool = False) -> JobRecord:
        """Gives a running job notice (with `evict`: kills it at once); it is queued again. Raises Refused."""
        record = self._store.known(number)
        active = self._active.get(number)
        if active is None or active.handle is None:
            raise Refused(f"job {number} is not running")
        if not record.job.preemptible:
            raise Refused(f"job {number} is not preemptible")
        self._stop(active, contract.EVICT if evict else contract.PREEMPT, 0 if evict else None)
        active.giving_way = True
        return record

    @property
    def tracked(self) -> bool:
        """Whether a job that waits or runs is to be copied to a tracking server."""
        active = (one.record for one in self._active.values())
        return any(record.job.tracking.mlflow for record in (*self._waiting.values(), *active))

    def running(self) -> list[JobRecord]:
        """Returns the jobs that have a running attempt."""
        return [active.record for active in self._active.values() if active.handle is not None]

    def yielding(self) -> list[Attempt]:
        """Returns the running attempts of jobs that give way to the gateway."""
        active = (one for one in self._active.values() if one.handle and one.record.job.yield_to)
        return [one.attempt for one in active if one.attempt]

    async def change(self) -> None:
        """Returns when some job has changed its state, or the runner closes."""
        await self._changed.wait()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _poll(self, group: asyncio.TaskGroup) -> float | None:
        """Starts and preempts what `queueing` says; returns after how many seconds to look again (None: when woken)."""
        at = clock.wall()
        ready = [
            slots.waiting(record, at)
            for record in self._waiting.values()
            if record.not_before <= at
            and self._only in (None, record.id)
            and not slots.too_large(record.job, self._settings)
        ]
        later = [record.not_before - at for record in self._waiting.values() if record.not_before > at]
        wait = min(later, default=None)
        if not ready:
            return wait
        if self._state.free_bytes() < self._settings.min_free_bytes:
            self._say(f"less than {self._settings.min_free_bytes >> 20} MiB free in {self._state.root}: jobs wait")
            return _AGAIN_S
        try:
            usage = self._store.usage(at)
        except sqlite3.Error as error:
            self._say(f"the state cannot be read: {error}")
            return _AGAIN_S
        self.trouble = ""
        self._state.keep_reserve()
        running = [active.queued() for active in self._active.values()]
        choice = choose(ready, running, self._settings.capacity, usage, self._settings.reserve_after_s)
        for number in choice.start:
            record = self._waiting.pop(number)
            taken = {gpu for active in self._active.values() for gpu in active.gpus}
            free = [gpu for gpu in self._settings.gpus if gpu not in taken]
            active = _Active(record, tuple(free[: record.job.resources.gpus]))
            self._active[number] = active
            group.create_task(self._guard(active, self._attempt(active)))
        for number in choice.preempt:
            with contextlib.suppress(Refused):
                self.preempt(number)
        # A job that waits starts to reserve at some time: look again then at the latest.
        return min(wait if wait is not None else 60.0, 60.0)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("%s", trouble)
        self.trouble = trouble

    async def _guard(self, active: _Active, work: Any) -> None:
        """Runs the task of one attempt; a mistake of ours ends that job, not the runner."""
        number = active.record.id
        try:
            await work
        except Exception as error:
            _log.exception("job %d", number)
            if active.attempt is not None:
                ended = Ended(Reason.ERROR, f"the runner failed: {type(error).__name__}")
                await self._settle(active, active.attempt, ended, None)
        finally:
            self._active.pop(number, None)
            if active.handle is not None:
                active.handle.close()
            self._wake.set()
            self._announce()

    async def _attempt(self, active: _Active) -> None:
        record, job = active.record, active.record.job
        token = secrets.token_hex(16)
        attempt = await self._insist(lambda: self._store.begin_attempt(record.id, token, active.gpus, clock.wall()))
        active.attempt = attempt
        self._announce()
        try:
            await asyncio.to_thread(inputs.verify, job)
            launch = await asyncio.to_thread(launching.prepared, record, attempt, self._state)
            active.handle = handle = self._executor.start(launch)
        except inputs.InputChanged as error:
            await self._settle(active, attempt, Ended(Reason.INPUT_CHANGED, str(error)), None)
            return
        except OSError as error:
            detail = f"cannot be started: {error.strerror or error}"
            await self._settle(active, attempt, Ended(Reason.ERROR, detail), None)
            return
        if self._store.known(record.id).cancel_asked:
            self._stop(active, contract.CANCEL)
        await self._watch(active, attempt, handle)

    async def _watch(self, active: _Active, attempt: Attempt, handle: Handle) -> None:
        record = await handle.ended()
        missing = await asyncio.to_thread(inputs.missing_outputs, active.record.job, self._state.outputs(attempt.job))
        refused = files.read_json(self._state.attempt(attempt.job, attempt.number) / contract.REFUSED)
        await self._settle(active, attempt, reason_of(record, missing, refused), record)

    async def _settle(self, active: _Active, attempt: Attempt, ended: Ended, record: Mapping[str, Any] | None) -> None:
        job, at = active.record.job, clock.wall()
        interrupted = ended.reason in (Reason.PREEMPTED, Reason.LOST)

        def settle() -> JobRecord:
            now = self._store.known(attempt.job)
            failures = now.failures + (not interrupted and ended.reason is not Reason.SUCCESS)
            interruptions = now.interruptions + interrupted
            following = next_of(job, ended.reason, failures, interruptions, cancel_asked=now.cancel_asked)
            share = slots.amount_of(job).share(self._settings.capacity) * max(at - attempt.started_at, 0)
            return self._store.end_attempt(
                attempt, ended, record, following, failures, interruptions, (now.owner, share), at
            )

        after = await self._insist(settle)
        if after.state is JobState.QUEUED:
            self._waiting[after.id] = after

    async def _insist(self, write: Callable[[], _T]) -> _T:
        """Returns what `write` returns; while the state cannot be written (disk full) it is tried again."""
        while True:
            try:
                return write()
            except sqlite3.OperationalError as error:
                if self._state.use_reserve():
                    continue
                self._say(f"the state cannot be written: {error}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await self._closing.wait()
            if self._closing.is_set():
                raise asyncio.CancelledError

    def _stop(self, active: _Active, why: str, grace_s: float | None = None) -> None:
        if active.handle is None:
            return  # it is being started, and looks for itself
        grace = active.record.job.grace_s if grace_s is None else grace_s
        try:
            active.handle.stop(why, grace)
        except OSError as error:
            raise Refused(f"job {active.record.id} cannot be told to stop: {error.strerror}") from error


class _Closed(Exception):
    """Ends the runner's task group."""
