"""Whose unfinished work something is: a process, named so that no other process is taken for it.

Decides whether the owner is surely dead. A number alone proves nothing (numbers are used again, and mean something else
in another container), so boot, process namespace and start time are compared too. In doubt nobody is dead.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: the boot of its kernel, its process namespace, its number there, and when it started (in ticks)."""

    boot: str
    namespace: str
    pid: int
    started: str

    def surely_dead(self) -> bool:
        """Returns whether the process is gone; False when it cannot be seen from here."""
        here = current()
        if not self.boot or (self.boot, self.namespace) != (here.boot, here.namespace):
            return False
        return _started(self.pid) != self.started

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def current() -> Owner:
    """Returns the calling process."""
    return Owner(
        _text("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"), os.getpid(), _started(os.getpid())
    )


def parse_owner(content: bytes) -> Owner | None:
    """Returns the owner that was written, None if the file was not finished."""
    try:
        found = json.loads(content)
        return Owner(str(found["boot"]), str(found["namespace"]), int(found["pid"]), str(found["started"]))
    except (ValueError, KeyError, TypeError):
        return None


def _started(pid: int) -> str:
    """Returns the process's start time; empty if there is no such process."""
    # The name in parentheses may hold blanks and parentheses; field 22 counts from after the last one.
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    alive = len(fields) > 19 and fields[0] not in ("Z", "X")
    return fields[19] if alive else _UNKNOWN


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return _UNKNOWN


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return _UNKNOWN
