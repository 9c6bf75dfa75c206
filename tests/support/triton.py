"""An embedded Triton in tests: started on free ports, driven over its own HTTP port, ended by process id."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.backends.triton_environment import TritonEnvironment
from gateway.backends.triton_placement import DiskPlacement
from gateway.backends.triton_process import TritonProcess, TritonProcessConfig
from gateway.backends.triton_repository import RenderOptions, triton_name
from gateway.engine.clock import LoopClock, pause
from gateway.engine.tasks import TaskGroup
from gateway.registry.directory import DirectorySource
from gateway.versions import ModelVersion
from tests.support.processes import ROOT


def placement(work: Path, registry: Path = ROOT / "tests" / "models") -> DiskPlacement:
    """Returns where the versions of `registry` are rendered for the Triton that works in `work`."""
    source = DirectorySource(registry)
    return DiskPlacement(work, lambda v: (source.verify(v), source.version_path(v)), lambda _: RenderOptions())


@asynccontextmanager
async def triton(
    environment: TritonEnvironment,
    work: Path,
    *,
    sleep: Callable[[float], Awaitable[None]] = pause,
    on_ready: Callable[[], Awaitable[None]] | None = None,
    on_exit: Callable[[str], None] | None = None,
    **settings: Any,
) -> AsyncIterator[TritonProcess]:
    """Yields a process that was not started yet, on free ports; stops it in the end."""
    tasks = TaskGroup()
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    process = TritonProcess(
        environment,
        TritonProcessConfig(**{"work": work, "repository": work / "models", **ports, **settings}),
        clock=LoopClock(asyncio.get_running_loop()),
        spawn=tasks.spawn,
        sleep=sleep,
        on_ready=on_ready,
        on_exit=on_exit,
    )
    try:
        yield process
    finally:
        await process.stop()
        await tasks.close()


def post(port: int, path: str, body: Any = None) -> Any:
    """Posts JSON to Triton's own HTTP port and returns what it answers; fails unless that is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, json.dumps({} if body is None else body))
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    assert response.status == 200, content
    return json.loads(content) if content else None


def load(port: int, version: ModelVersion) -> None:
    post(port, f"/v2/repository/models/{triton_name(version)}/load")


def wait_gone(pids: list[int], seconds: float = 20) -> bool:
    """Returns whether every process ended within `seconds` each. Sleeps on the kernel's notice, not on a clock."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], seconds)[0]:
                return False
        finally:
            os.close(handle)
    return True
