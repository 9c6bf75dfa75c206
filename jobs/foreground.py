"""`sluice jobs run FILE`: one job, start to end, with its output and a progress bar.

Decides what the foreground does with signals: the first cancels the job with its grace, the second without.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from jobs import clock, logs, reading
from jobs.documents import JobError
from jobs.job import Job
from jobs.progress import Bar
from jobs.runner import Runner
from jobs.serving import runner
from jobs.slots import RunnerSettings
from jobs.state_folder import StateFolder
from jobs.states import JobState
from jobs.store import JobRecord, Store

_CHUNK = 1 << 16
_LOOK_S = 0.2


async def run(root: Path, settings: RunnerSettings, job: Job, output: BinaryIO | None) -> JobRecord | JobError:
    """Returns the job as it ended, or why it was not taken. Copies what it writes to `output`. Raises StateBusy."""
    async with runner(root, settings, only=0) as (made, store, state):
        try:
            record, _ = await made.submit(job)
        except JobError as error:
            return error
        made.only(record.id)
        return await _follow(made, store, state, record.id, output)


async def _follow(made: Runner, store: Store, state: StateFolder, number: int, output: BinaryIO | None) -> JobRecord:
    asked = 0

    def interrupt() -> None:
        nonlocal asked
        made.cancel(number, grace_s=None if asked == 0 else 0)
        asked += 1

    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(which, interrupt)
    began, bar, attempt, offset = clock.now(), Bar(sys.stderr), 0, 0
    try:
        while True:
            record = store.job(number)
            assert record is not None
            if record.attempts != attempt:
                # What the attempt before wrote last has been copied: it had ended when we last looked.
                attempt, offset = record.attempts, 0
            if output is not None:
                offset = await asyncio.to_thread(_copy, state.attempt(number, attempt), offset, output, bar)
            if record.state.final:
                return record
            rows = await asyncio.to_thread(reading.metrics, state.metrics(number))
            if rows:
                bar.show(rows[-1], clock.now() - began)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await made.change()
    finally:
        bar.clear()
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(which)


def _copy(folder: Path, offset: int, output: BinaryIO, bar: Bar) -> int:
    """Copies what is new in the log and returns where it ends now."""
    while (piece := logs.read(folder, offset, _CHUNK)).data:
        bar.clear()
        if piece.start > offset:
            output.write(f"\n[sluice: {piece.start - offset} bytes were dropped]\n".encode())
        output.write(piece.data)
        output.flush()
        offset = piece.start + len(piece.data)
    return offset


def exit_code(record: JobRecord) -> int:
    """Returns the exit code of the command for a job that has ended."""
    return {JobState.SUCCEEDED: 0, JobState.CANCELLED: 130}.get(record.state, 1)
