"""The kernel's scheduler, told that the gateway and what it starts work for a moment at a time."""

from __future__ import annotations

import ctypes
import platform
import struct

_SET = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call sched_setattr; sched_getattr's is the next one."""
# struct sched_attr: size, policy, flags, nice, priority, runtime (the slice), deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
_OTHER, _BATCH = 0, 3
_SLICE_NS = 100_000


def take_short_slices(nanoseconds: int = _SLICE_NS) -> bool:
    """Asks for short time slices for this thread and all that it starts later; returns whether the kernel took that.

    A request wakes the gateway, Triton, the model's process and the gateway again, each for a fraction of a
    millisecond. While another program computes on the same cores, a process that wakes waits until the slice of that
    one is over, 3 ms at the usual length. From Linux 6.12 on, who asks for shorter slices comes first and loses nothing
    but that (EEVDF, Stoica and Abdel-Wahab 1995; `sched_setattr(2)`). Older kernels take no notice, a sandbox may
    refuse.
    """
    number = _SET.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return False
    try:
        call = ctypes.CDLL(None).syscall
    except (AttributeError, OSError):
        return False
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if call(number + 1, 0, attributes, _ATTRIBUTES.size, 0) != 0:
        return False
    _, policy, flags, nice, priority, _, deadline, period = _ATTRIBUTES.unpack(attributes.raw)
    if policy not in (_OTHER, _BATCH):
        return False  # somebody has chosen otherwise
    attributes.raw = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, nanoseconds, deadline, period)
    return bool(call(number, 0, attributes, 0) == 0)
