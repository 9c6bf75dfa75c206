"""What the machine gives: memory, disk, processors, open files."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from gateway.backends.precedence import permitted
from gateway.config import GIB, MIB, Config
from gateway.doctor.finding import Finding, failed, ok, warning

_LEAST_MEMORY = GIB
_LEAST_DISK = 500 * MIB
_SPARE_FILES = 128


def machine(config: Config) -> Iterator[Finding]:
    """Checks resources against what the configuration may ask of them."""
    yield _memory(Path("/proc/meminfo"))
    folders = [Path(config.triton.work_folder)] if config.triton.mode == "embedded" else []
    if config.telemetry.access_log not in ("", "-"):
        folders.append(Path(config.telemetry.access_log).parent)
    for folder in dict.fromkeys(existing(folder) for folder in folders):
        yield _disk(folder)
    yield _open_files(config)
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
        advice = "the gateway and Triton share one processor; give them two or more"
        yield ok("processors", str(count)) if count > 1 else warning("processors", str(count), advice)
    if config.triton.mode == "embedded" and config.triton.realtime_swaps:
        yield _precedence()


def existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _memory(path: Path) -> Finding:
    try:
        lines = dict(line.split(":", 1) for line in path.read_text(encoding="ascii").splitlines() if ":" in line)
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return warning("memory", "unknown", "cannot read /proc/meminfo")
    if available >= _LEAST_MEMORY:
        return ok("memory", f"{available / GIB:.1f} GiB available")
    return warning("memory", f"{available / MIB:.0f} MiB available", "Triton with models needs about 1 GiB; free some")


def _precedence() -> Finding:
    subject = "callers go first while versions load"
    if permitted():
        return ok(subject, "SCHED_RR is permitted")
    advice = (
        "for lower latency then, give the gateway CAP_SYS_NICE or an RLIMIT_RTPRIO of 1 (systemd: LimitRTPRIO=1) and "
        "two processors; or set triton.realtime_swaps to false"
    )
    return warning(subject, "no", advice)


def _disk(folder: Path) -> Finding:
    subject = f"disk ({folder})"
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return failed(subject, "not writable", "set triton.work_folder and telemetry.access_log to places that are")
    if free >= _LEAST_DISK:
        return ok(subject, f"{free / GIB:.1f} GiB free")
    return warning(subject, f"{free / MIB:.0f} MiB free", "free some space: logs and rendered models are written here")


def _open_files(config: Config) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * config.limits.max_connections + _SPARE_FILES
    # `sluice serve` raises its soft limit to the hard one.
    limit = hard if soft != resource.RLIM_INFINITY else soft
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return ok("open files", f"limit {'none' if limit == resource.RLIM_INFINITY else limit}")
    return warning(
        "open files",
        f"limit {limit}, but limits.max_connections allows {needed} with both listeners full",
        f"raise the hard limit (`ulimit -Hn {needed}` as root, or the service's LimitNOFILE), or lower "
        "limits.max_connections",
    )
