"""The ports of the embedded Triton: chosen or refused before it starts, asked for readiness afterwards.

A refusal names the setting, the port and, where this user may see it, who holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path


class TritonStartError(RuntimeError):
    """The embedded Triton did not come up; the message says why and where its log is."""


def choose_ports(host: str, wanted: Sequence[tuple[str, int]]) -> list[int]:
    """Returns one port for each (setting, port) of `wanted`; for a port of 0 one that is free now.

    Raises:
        TritonStartError: a wanted port is taken.
    """
    chosen: list[int] = []
    for setting, port in wanted:
        if port == 0:
            port = free_port(host)
            while port in chosen:
                port = free_port(host)
        elif port_is_busy(host, port):
            holder = port_holder(port)
            raise TritonStartError(
                f"port {port} on {host} ({setting}) is taken{' by ' + holder if holder else ''}: stop that, "
                f"or choose another one with {setting} (0 means any)"
            )
        chosen.append(port)
    return chosen


async def answers(host: str, port: int, what: str, seconds: float = 1.0) -> bool:
    """Returns whether the server's health endpoint `what` (live, ready) says 200, within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET /v2/health/{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).startswith(b"HTTP/1.1 200")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False


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
