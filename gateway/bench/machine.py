"""What the operating system knows: CPU time of processes, who listens on a port, stolen time. Linux's /proc only."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

from gateway import COMPILED

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"


def cpu_seconds(pid: int) -> float | None:
    """Returns the CPU time (user and system) a process has used so far, None where it cannot be seen."""
    fields = _stat(pid)
    return None if fields is None else (int(fields[11]) + int(fields[12])) / _TICKS


def family(pid: int) -> dict[int, str]:
    """Returns the process and everything below it: process id to program name."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        if (called := program(current)) is not None:
            found[current] = called
            waiting += children.get(current, [])
    return found


def program(pid: int) -> str | None:
    """Returns a short name of what a process runs, None when it is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    names = [os.path.basename(word.decode(errors="replace")) for word in words if word]
    if not names:
        return "kernel"
    if any(name in ("gateway.cli", "sluice") for name in names[:4]):
        return "sluice"
    script = next((name for name in names[1:] if name.endswith(".py")), None)
    return script if script is not None and names[0].startswith("python") else names[0]


def listener_of(port: int) -> int | None:
    """Returns the id of the process that listens on a TCP port of this machine, None where that cannot be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for pid in os.listdir("/proc"):
        if pid.isdigit() and inodes.intersection(_handles(pid)):
            return int(pid)
    return None


def cpu_jiffies() -> tuple[int, int]:
    """Returns (all, stolen) CPU time of the machine so far, in ticks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields[:8]), fields[7]


def description() -> dict[str, Any]:
    """Returns what numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "compiled": COMPILED,
    }


class CpuWatch:
    """CPU time of the generator, of a local server and of everything the server started, between two instants.

    Processes that end in between are not counted; several with the same program name are added up.
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self._processes: dict[int, str] = {}
        for label, pid in roots.items():
            for member, name in family(pid).items():
                self._processes.setdefault(member, label if member == pid else name)
        self._before: dict[int, float] = {}

    def start(self) -> None:
        self._before = {pid: used for pid in self._processes if (used := cpu_seconds(pid)) is not None}

    def used(self) -> dict[str, float]:
        """Returns seconds of CPU since `start` by program."""
        found: dict[str, float] = {}
        for pid, before in self._before.items():
            if (now := cpu_seconds(pid)) is not None:
                name = self._processes[pid]
                found[name] = found.get(name, 0.0) + now - before
        return {name: round(seconds, 3) for name, seconds in found.items()}


def _handles(pid: str) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # gone, or not ours to look into
        for handle in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed in between
                found.add(os.readlink(f"/proc/{pid}/fd/{handle}"))
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
