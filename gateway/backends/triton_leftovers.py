"""What an earlier run may have left behind: processes of a dead gateway, and their shared memory.

Invariants: a process is touched only if its id *and* its start time are those that were written down, and only if the
gateway that owned it is gone.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from gateway.backends.triton_shim import descendants, remove_shared_memory, started_at


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """One process for ever: its id and its start time in clock ticks since boot."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class RunState:
    """Who ran Triton here: the gateway, the shim and the server, and how the names of their shared memory begin.

    Written by the shim, removed when it ends.
    """

    owner: ProcessMark
    shim: ProcessMark
    server: ProcessMark
    shm_prefix: str


def read_state(path: Path) -> RunState | None:
    """Returns what the state file says, or None if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        owner, shim, server = (ProcessMark(int(content[k][0]), int(content[k][1])) for k in ("owner", "shim", "server"))
        return RunState(owner, shim, server, str(content.get("shm_prefix", "")))
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None


def kill_leftovers(path: Path) -> int:
    """Kills what a dead gateway left running, removes its shared memory and its state file; returns how many processes
    were killed.

    The caller makes sure before that the owner is gone (`read_state(path).owner.alive`).
    """
    state = read_state(path)
    path.unlink(missing_ok=True)
    if state is None:
        return 0
    killed = 0
    for mark in (state.shim, state.server):
        if not mark.alive:
            continue
        for pid in [*descendants(mark.pid), mark.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
    if state.shm_prefix:
        remove_shared_memory(state.shm_prefix)
    return killed
