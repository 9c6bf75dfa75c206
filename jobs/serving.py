"""Puts the runner together: state folder, store, executor, runner, REST. Runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from jobs import files
from jobs.executors.local import LocalExecutor
from jobs.executors.ray import RayExecutor
from jobs.mirroring import mirror
from jobs.queueing import Amount
from jobs.runner import Runner
from jobs.server import Api
from jobs.slots import RunnerSettings
from jobs.spot import SpotSimulator, simulate
from jobs.state_folder import StateFolder
from jobs.store import Store
from jobs.yielding import Neighbour, gateway_of

_GPUS = Path("/proc/driver/nvidia/gpus")


def this_machine(cpus: int | None = None, memory_mib: int | None = None, gpus: int | None = None) -> RunnerSettings:
    """Returns settings for all of this machine, or for as much of it as is named."""
    if cpus is None:
        cpus = len(os.sched_getaffinity(0))
    if memory_mib is None:
        memory_mib = (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) >> 20
    if gpus is None:
        gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0
    return RunnerSettings(capacity=Amount(cpus, gpus, memory_mib), gpus=tuple(range(gpus)))


@asynccontextmanager
async def runner(
    root: Path, settings: RunnerSettings, *, only: int | None = None, ray: str | None = None
) -> AsyncIterator[tuple[Runner, Store, StateFolder]]:
    """Runs a runner on the state folder while the context is open; attempts run here or on the cluster at `ray`.

    Raises:
        StateBusy: another runner uses the folder.
    """
    state = StateFolder(root)
    state.lock()
    try:
        with Store(state.root) as store:
            executor = RayExecutor(ray) if ray else LocalExecutor()
            made = Runner(state, store, executor, settings, only=only)
            async with asyncio.TaskGroup() as group:
                group.create_task(made.run())
                beside = [
                    group.create_task(mirror(made, store, state)),
                    group.create_task(Neighbour(made, state, gateway_of(os.environ)).run()),
                ]
                try:
                    yield made, store, state
                finally:
                    made.close()
                    for task in beside:
                        task.cancel()
    finally:
        state.unlock()


async def serve(
    root: Path, settings: RunnerSettings, port: int, announce: Callable[[str], None], spot: SpotSimulator | None = None,
    ray: str | None = None,
) -> None:  # fmt: skip
    """Serves until SIGTERM or SIGINT; jobs that run go on under their keepers."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with runner(root, settings, ray=ray) as (made, store, state):
        serving = web.AppRunner(Api(made, store, state).app, access_log=None, shutdown_timeout=1.0)
        await serving.setup()
        try:
            site = web.TCPSite(serving, "127.0.0.1", port)
            await site.start()
            bound = serving.addresses[0][1]
            files.replace(state.endpoint_file, json.dumps({"port": bound, "pid": os.getpid()}).encode())
            announce(f"127.0.0.1:{bound}")
            if spot is not None:
                await simulate(made, spot, stop)
            await stop.wait()
        finally:
            state.endpoint_file.unlink(missing_ok=True)
            made.close()
            await serving.cleanup()
