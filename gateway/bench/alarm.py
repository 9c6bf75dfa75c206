"""Wakes the event loop at an instant, to the microsecond: uvloop's own timers have a grain of a millisecond.

A Linux timerfd, which the event loop watches like a socket; Python 3.13 has it in `os`, before that it takes ctypes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

from gateway.messages import Instant

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_ABSOLUTE = 1
_SECOND = 1_000_000_000


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """Calls `callback` when the instant given to `set` has come; one instant at a time, the last one set counts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _TimerSpec()
        self._at = ctypes.byref(self._spec)
        self._loop = loop
        self._callback = callback
        loop.add_reader(self._fd, self._ring)

    def set(self, when: Instant) -> None:
        """Rings at `when` on the monotonic clock, at once if that is past."""
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(max(1, when), _SECOND)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._at, None)

    def close(self) -> None:
        """Never rings again. May be called again."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._callback()
