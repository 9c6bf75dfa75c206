"""What an earlier run may have left behind: processes of a dead gateway, and ports that something holds.

Invariants: a process is touched only if its id *and* its start time are those that were written down, and only if the
gateway that owned it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from gateway.backends.triton_shim import descendants, started_at


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
    """Who ran Triton here: the gateway, the shim and the server. Written by the shim, removed when it ends."""

    owner: ProcessMark
    shim: ProcessMark
    server: ProcessMark


def read_state(path: Path) -> RunState | None:
    """Returns what the state file says, or None if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return RunState(*(ProcessMark(int(content[k][0]), int(content[k][1])) for k in ("owner", "shim", "server")))
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None


def kill_leftovers(path: Path) -> int:
    """Kills what a dead gateway left running and removes its state file; returns how many processes were killed.

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
    return killed


def free_port(host: str) -> int:
    """Returns a port that is free on `host` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_busy(host: str, port: int) -> bool:
    """Returns whether something listens on `host`:`port`, so that a server could not."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def port_holder(port: int) -> str:
    """Returns who listens on TCP `port`, as "name (pid 123)", or "" where that cannot be seen."""
    inodes = _listening_inodes(port)
    if not inodes:
        return ""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        if inodes & _open_links(f"/proc/{entry}/fd"):
            try:
                name = Path(f"/proc/{entry}/comm").read_text(encoding="utf-8").strip()
            except OSError:
                continue
            return f"{name} (pid {entry})"
    return ""


def _open_links(folder: str) -> set[str]:
    """Returns what the descriptors in `folder` stand for; those that vanish or are not ours to see are left out."""
    links = set()
    try:
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                links.add(os.readlink(f"{folder}/{descriptor}"))
    except OSError:
        return links
    return links


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
