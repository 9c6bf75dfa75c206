"""Runs attempts on this machine, each under a keeper of its own that outlives the runner.

Decides whether an attempt is still alive: its keeper is, which is known by process id, start time and boot. Watches
keepers through pidfds, which cannot be confused by reused ids. An attempt whose keeper is gone without a record is
lost; whatever still carries its token is killed before anybody is told, so that it cannot run twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import contract, files, processes
from jobs.executors.port import Launch

_ROOT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from jobs.keeper import main; main(sys.argv[2])"
_KILL_ROUNDS, _KILL_WAIT_S = 400, 0.005


def write_launch(launch: Launch) -> None:
    """Writes the file by which a keeper knows what to run. Raises OSError."""
    job, limits = launch.job, launch.job.limits
    document = {
        "argv": launch.argv,
        "folder": job.folder,
        "log_bytes": limits.log_mib << 20,
        "file_bytes": limits.file_mib << 20,
        "open_files": limits.open_files,
        "processes": limits.processes,
        "memory_bytes": job.resources.memory_mib << 20,
        "time_limit_s": job.time_limit_s,
        "grace_s": job.grace_s,
    }
    (launch.folder / contract.LAUNCH).write_text(json.dumps(document), encoding="utf-8")


def keeper_command(folder: Path) -> list[str]:
    """Returns the command line of the keeper of the attempt in `folder`."""
    return [sys.executable, "-I", "-S", "-c", _START, str(_ROOT), str(folder)]


class LocalExecutor:
    """Starts keepers and finds them again."""

    def start(self, launch: Launch) -> LocalHandle:
        write_launch(launch)
        # Not subprocess: the keeper must be able to outlive us, and nobody should warn about that.
        errors = str(launch.folder / contract.KEEPER_ERRORS)
        pid = os.posix_spawn(
            sys.executable,
            keeper_command(launch.folder),
            dict(launch.environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            ],
            setsid=True,
        )
        return LocalHandle(launch.folder, launch.token, os.pidfd_open(pid), child=pid)

    def find(self, folder: Path, token: str) -> LocalHandle:
        # Whoever claims first wins: a keeper that is only just starting must not come up after we gave it up.
        with contextlib.suppress(OSError):
            files.claim(folder / contract.CLAIM, {"pid": 0, "start": 0, "boot": ""})
        claim = files.read_json(folder / contract.CLAIM) or {}
        handle = -1
        if claim.get("pid") and claim.get("boot") == processes.boot():
            try:
                handle = os.pidfd_open(claim["pid"])
                # Opened first, compared after: from here on the id cannot change hands.
                if not processes.is_running(claim["pid"], claim["start"]):
                    os.close(handle)
                    handle = -1
            except OSError:
                handle = -1
        return LocalHandle(folder, token, handle, child=None)


class LocalHandle:
    """One keeper, as its parent or as the runner that came after; `pidfd` is -1 if it is gone."""

    def __init__(self, folder: Path, token: str, pidfd: int, child: int | None) -> None:
        self._folder = folder
        self._token = token
        self._pidfd = pidfd
        self._child = child

    async def ended(self) -> Mapping[str, Any] | None:
        if self._pidfd >= 0:
            await _readable(self._pidfd)
            if self._child is not None:
                self._reap(self._child)
            self.close()
        record = files.read_json(self._folder / contract.EXIT)
        if record is None:
            await asyncio.to_thread(self._end_survivors)
        return record

    @staticmethod
    def _reap(child: int) -> None:
        """Takes the end of a child that is known to have ended; does not block."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)

    def _end_survivors(self) -> None:
        def wait() -> None:
            select.select([], [], [], _KILL_WAIT_S)

        processes.end_all(lambda: processes.marked(self._token), wait, _KILL_ROUNDS)

    def stop(self, why: str, grace_s: float, detail: str = "") -> None:
        document = {"why": why, "grace_s": grace_s, "detail": detail}
        files.replace(self._folder / contract.STOP, json.dumps(document).encode())
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, contract.WAKE)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


async def _readable(handle: int) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(handle, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(handle)
