"""Keeps a mirror process (`jobs.mirror`) beside the runner while there are jobs that name an MLflow server.

Decides when it runs: from the first such job on; one that ends is started again at the next change of a job. When the
runner stops, the mirror sends what it can at once and ends; what is left is sent when the next runner starts.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from jobs.runner import Runner
from jobs.state_folder import StateFolder
from jobs.store import Store

_MIRROR = Path(__file__).with_name("mirror.py")
_LAST_S = 20


async def mirror(runner: Runner, store: Store, state: StateFolder) -> None:
    """Runs until it is cancelled."""
    process: subprocess.Popen[bytes] | None = None
    wanted = any(record.job.tracking.mlflow for record in store.jobs())
    try:
        while True:
            if (wanted or runner.tracked) and (process is None or process.poll() is not None):
                process = await asyncio.to_thread(_start, state)
                wanted = False
            await runner.change()
    finally:
        if process is not None:
            await asyncio.to_thread(_finish, process)


def _start(state: StateFolder) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C at the terminal is the runner's business. When its standard input ends, it finishes.
    return subprocess.Popen(
        [sys.executable, str(_MIRROR), str(state.root)], stdin=subprocess.PIPE, start_new_session=True
    )


def _finish(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_LAST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
