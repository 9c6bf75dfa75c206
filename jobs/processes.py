"""Processes as /proc shows them: who is who although ids are reused, who belongs to a job, and how to end them all.

Decides identity: a process is its id together with its start time and the boot it belongs to. Decides membership: the
descendants of the keeper (a subreaper, so orphans come back to it), the members of the job's session, and whoever
carries the attempt's token in its environment. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jobs import contract

_PAGE = os.sysconf("SC_PAGESIZE")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Stat(NamedTuple):
    """What /proc/<pid>/stat says of one process; `start` in clock ticks since boot, `rss` in bytes."""

    state: str
    parent: int
    session: int
    threads: int
    start: int
    rss: int


def stat(pid: int) -> Stat | None:
    """Returns what is known of a process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 22:
        return None
    # Numbering of proc(5), less the two fields that were cut off and one because it counts from 1.
    return Stat(
        fields[0].decode(),
        int(fields[1]),
        int(fields[3]),
        int(fields[17]),
        int(fields[19]),
        int(fields[21]) * _PAGE,
    )


def boot() -> str:
    """Returns the id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identity(pid: int) -> dict[str, int | str]:
    """Returns what tells this process from every other, ever."""
    found = stat(pid)
    return {"pid": pid, "start": found.start if found else -1, "boot": boot()}


def is_running(pid: int, start: int) -> bool:
    """Returns whether the process that had this id and start time still runs (one that waits to be reaped does not)."""
    found = stat(pid)
    return found is not None and found.start == start and found.state not in "ZX"


def everything() -> dict[int, Stat]:
    """Returns all processes."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (known := stat(int(name))) is not None:
            found[int(name)] = known
    return found


def below(root: int, table: dict[int, Stat]) -> set[int]:
    """Returns the descendants of `root`, without it."""
    children: dict[int, list[int]] = {}
    for pid, known in table.items():
        children.setdefault(known.parent, []).append(pid)
    found: set[int] = set()
    queue = [root]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in found:
                found.add(child)
                queue.append(child)
    return found


def children_of(root: int) -> list[int]:
    """Returns the descendants of `root` by the kernel's lists of children: cheap, and enough to measure with."""
    found: list[int] = []
    queue = [root]
    while queue:
        pid = queue.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                    queue += (more := [int(child) for child in file.read().split()])
                    found += more
    return found


def marked(token: str) -> set[int]:
    """Returns all processes whose environment carries the attempt's token, and their descendants."""
    mark = f"{contract.TOKEN}={token}".encode()
    table = everything()
    found = set()
    for pid in table:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if mark in file.read().split(b"\0"):
                found.add(pid)
    for pid in list(found):
        found |= below(pid, table)
    return found - {os.getpid(), 1}


def living(pids: Iterable[int]) -> set[int]:
    """Returns those that still run."""
    return {pid for pid in pids if (known := stat(pid)) is not None and known.state not in "ZX"}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to each; those that are gone do not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_all(find: Callable[[], set[int]], wait: Callable[[], None], rounds: int) -> set[int]:
    """Kills whatever `find` returns until it returns nothing; calls `wait` between rounds. Returns who survived.

    They are stopped first, so that a program that keeps forking cannot outrun the killing.
    """
    for _ in range(rounds):
        found = living(find())
        if not found:
            return found
        send(found, signal.SIGSTOP)
        send(living(find()) | found, signal.SIGKILL)
        wait()
    return living(find())


def pss(pid: int) -> int:
    """Returns the bytes of memory of a process with shared pages counted once among those who share them."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def kernel_kills() -> int:
    """Returns how many processes the kernel has killed for want of memory since boot."""
    with contextlib.suppress(OSError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


def become_subreaper() -> None:
    """Makes orphans below this process its own children, instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
