"""Stands between the gateway and tritonserver so that no process outlives its parent, whoever is killed and how.

Run as a script by the gateway's interpreter with `-I -S` (standard library only, about 8 MB):

    triton_shim.py STATE_FILE OWNER_PID GRACE_SECONDS SHM_PREFIX COMMAND…

* it leads a process group of its own, so that Ctrl-C in a terminal is the gateway's to handle, but not a session: Linux
  schedules sessions against each other (autogroups), and a model that loads in Triton's would keep the gateway waiting;
* standard input is a pipe held by the gateway: its end means that the gateway is gone, also after `kill -9`;
* the shim is the reaper of everything below it, so the python-backend stubs of a dead tritonserver become its children;
* tritonserver gets a parent-death signal, so it goes when the shim itself is killed;
* leaving, it kills what is left below it, removes the shared-memory files with our prefix and the state file.

The exit status is that of tritonserver (128 + n when signal n killed it).
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_REAP_SECONDS = 5.0


def started_at(pid: int) -> int | None:
    """Returns the start time of process `pid` in clock ticks since boot, or None if there is no such process.

    Together with the id it names a process for ever: ids are reused, the pair is not.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[19])


def children(pid: int) -> list[int]:
    """Returns the ids of the direct children of `pid`."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and parent_of(int(entry)) == pid]


def parent_of(pid: int) -> int | None:
    """Returns the id of the parent of `pid`, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def descendants(pid: int) -> list[int]:
    """Returns the ids of everything below `pid`, parents first."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def main(arguments: list[str]) -> int:
    state_file, owner, grace, prefix, *command = arguments
    os.setpgid(0, 0)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, _note)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # Safe here: this process has one thread.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    _write_state(state_file, int(owner), server.pid, prefix)
    _watch(server, wake_read)
    status = _end(server, float(grace))
    _kill_rest()
    remove_shared_memory(prefix)
    _remove(state_file)
    return status


_stop_requested = False


def _note(number: int, _frame: FrameType | None) -> None:
    global _stop_requested
    _stop_requested = _stop_requested or number != signal.SIGCHLD


def _write_state(path: str, owner: int, server: int, shm_prefix: str) -> None:
    state = {
        "owner": [owner, started_at(owner)],
        "shim": [os.getpid(), started_at(os.getpid())],
        "server": [server, started_at(server)],
        "shm_prefix": shm_prefix,
    }
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(path + ".new", path)


def _watch(server: subprocess.Popen[bytes], wake: int) -> None:
    """Returns when the server ended, a signal asked to stop or the gateway is gone."""
    stdin = sys.stdin.fileno()
    while server.poll() is None and not _stop_requested:
        ready, _, _ = select.select([stdin, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if stdin in ready and not os.read(stdin, 4096):
            return


def _end(server: subprocess.Popen[bytes], grace: float) -> int:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(grace)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    code = server.returncode
    return code if code >= 0 else 128 - code


def _kill_rest() -> None:
    """Kills everything below this process (the stubs) and reaps it, within a bound."""
    end = time.monotonic() + _REAP_SECONDS  # noqa: TID251 - a script of its own, without the gateway's clock
    while time.monotonic() < end:  # noqa: TID251
        below = descendants(os.getpid())
        if not below:
            return
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        select.select([], [], [], 0.01)


def remove_shared_memory(prefix: str) -> None:
    """Removes the shared-memory files whose names begin with `prefix`."""
    for path in glob.glob(f"/dev/shm/{glob.escape(prefix)}*"):
        _remove(path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
