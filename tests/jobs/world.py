"""A runner in the test's own process, with real keepers and real jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jobs import processes
from jobs.executors.local import LocalExecutor
from jobs.job import Job
from jobs.job_loading import from_document
from jobs.queueing import Amount
from jobs.runner import Runner
from jobs.slots import RunnerSettings
from jobs.state_folder import StateFolder
from jobs.store import Attempt, JobRecord, Store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
# Folders in memory: these tests are about processes, and a shared disk's fsync takes its time.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class World:
    """A runner, its store, and waiting with a bound."""

    def __init__(self, runner: Runner, store: Store, state: StateFolder) -> None:
        self.runner = runner
        self.store = store
        self.state = state

    async def submit(self, *command: str, key: str | None = None, **settings: Any) -> int:
        record, _ = await self.runner.submit(job_of(*command, **settings), key=key)
        return record.id

    async def ended(self, number: int) -> JobRecord:
        """Returns the job when it is done with."""

        def final() -> JobRecord | None:
            record = self.store.job(number)
            assert record is not None
            return record if record.state.final else None

        found: JobRecord = await self.until(final, f"job {number} ends")
        return found

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Returns what `condition` returns when it is true; fails after a while."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (found := condition()):
                    never = asyncio.Event()
                    try:
                        async with asyncio.timeout(0.02):
                            await never.wait()
                    except TimeoutError:
                        pass
                return found
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}") from None

    async def file(self, path: Path) -> str:
        """Returns the content of a file when it has some."""
        return str(await self.until(lambda: path.exists() and path.read_text(), f"{path} appears"))

    def last(self, number: int) -> Attempt:
        return self.store.attempts(number)[-1]

    def log(self, number: int) -> bytes:
        from jobs import logs

        folder, found, offset = self.state.attempt(number, len(self.store.attempts(number))), b"", 0
        while (piece := logs.read(folder, offset, 1 << 20)).data:
            found += piece.data
            offset = piece.start + len(piece.data)
        return found

    def alive(self, number: int) -> set[int]:
        """Returns the processes that carry a token of any attempt of the job."""
        return {
            pid
            for attempt in self.store.attempts(number)
            for pid in processes.living(processes.marked(attempt.token))
            if pid != os.getpid()
        }


def job_of(*command: str, **settings: Any) -> Job:
    document: dict[str, Any] = {"name": "test", "folder": "/tmp", "grace_s": 1, "retry_delay_s": 0, **settings}
    if command:
        document["command"] = list(command)
    return from_document(document)


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


@asynccontextmanager
async def world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    """Runs a runner on `folder`; jobs that still run when the context is left go on."""
    known = {"capacity": Amount(2, 0, 4096), "min_free_bytes": 0, **settings}
    state = StateFolder(folder / "state")
    state.lock()
    with Store(state.root) as store:
        runner = Runner(state, store, LocalExecutor(), RunnerSettings(**known))
        task = asyncio.get_running_loop().create_task(runner.run())
        try:
            yield World(runner, store, state)
        finally:
            runner.close()
            await task
            state.unlock()
