"""Callers' work goes first on this machine while versions change beside it.

A version that loads is a process that wants a whole core for a while. Linux lets it have its turn of about 3 ms even
when a request arrives at that core, and a request crosses the gateway and Triton several times. So the event loop's
thread and Triton's own threads, which need little and often, run in SCHED_RR (sched(7)) for as long as something is
proved, loaded or unloaded, and a little longer. Not the processes that execute models: those want much, and would
starve what loads.

It takes CAP_SYS_NICE or RLIMIT_RTPRIO >= 1 (systemd: `LimitRTPRIO=1`), and two processors; without, nothing happens.
Measured: docs/versions.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from types import TracebackType

from gateway.messages import Nanos
from gateway.ports import Cancellable, Clock

_log = logging.getLogger("sluice.triton")
LINGER: Nanos = 2_000_000_000
"""How much longer it lasts: the unloaded version's process ends, and a swap is often followed by another."""
if hasattr(os, "sched_param"):  # on Linux, where an embedded Triton runs
    _NONE, _LOWEST = os.sched_param(0), os.sched_param(1)


class Precedence:
    """A context manager that may be entered again while it is entered; by the event loop's thread only.

    `server` returns the process id of the embedded Triton, None while it does not run.
    """

    def __init__(self, server: Callable[[], int | None], clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._entered = 0
        self._first: set[int] = set()
        self._end: Cancellable | None = None
        self._usable = available()

    def __enter__(self) -> None:
        self._entered += 1
        if self._usable:
            self._begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._first:
            if self._end is not None:
                self._end.cancel()
            self._end = self._clock.call_at(self._clock.now() + LINGER, self._finish)

    def _finish(self) -> None:
        """Gives everything its turn again, unless something changes."""
        while self._entered == 0 and self._first:
            thread = self._first.pop()
            with contextlib.suppress(OSError):
                if _policy(thread) == os.SCHED_RR:  # else it is gone, and another has its number
                    _set(thread, os.SCHED_OTHER, _NONE)

    def _begin(self) -> None:
        for thread in (threading.get_native_id(), *_threads(self._server())):
            try:
                if thread in self._first or _policy(thread) != os.SCHED_OTHER:  # or somebody else has chosen
                    continue
                _set(thread, os.SCHED_RR, _LOWEST)
            except ProcessLookupError:
                continue
            except OSError as error:  # not permitted; or a sandbox that has no such call
                self._usable = False
                _log.info("callers do not go first while versions load (SCHED_RR: %s)", error)
                return
            self._first.add(thread)


def available() -> bool:
    """Whether this system has the policy and processors enough: on a single one it would keep models from executing."""
    return hasattr(os, "SCHED_RESET_ON_FORK") and len(os.sched_getaffinity(0)) > 1


def permitted() -> bool:
    """Whether a thread of this process may run in SCHED_RR; found out by trying with the calling one."""
    if not available():
        return False
    try:
        if (before := _policy(0)) != os.SCHED_OTHER:
            return before in (os.SCHED_RR, os.SCHED_FIFO)
        _set(0, os.SCHED_RR, _LOWEST)
        _set(0, os.SCHED_OTHER, _NONE)
    except OSError:
        return False
    return True


def _set(thread: int, policy: int, parameter: os.sched_param) -> None:
    # What the thread starts (a model's process, worker threads) begins in the ordinary policy, at nice 0.
    os.sched_setscheduler(thread, policy | os.SCHED_RESET_ON_FORK, parameter)


def _policy(thread: int) -> int:
    return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK


def _threads(process: int | None) -> list[int]:
    if process is None:
        return []
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    except OSError:
        return []
