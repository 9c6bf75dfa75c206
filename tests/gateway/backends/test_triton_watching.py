"""Back-off, time limits and the log of the embedded Triton, with a scripted server in its place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.backends import triton_leftovers as leftovers
from gateway.backends.triton_environment import TritonEnvironment
from gateway.backends.triton_leftovers import ProcessMark
from gateway.backends.triton_process import TritonStartError
from gateway.backends.triton_shim import started_at
from gateway.engine.clock import pause
from tests.support.triton import triton, wait_gone

_ANSWERS_ONCE = """#!{python} -S
import socket, sys
port = int(next(a for a in sys.argv if a.startswith("--http-port=")).partition("=")[2])
server = socket.create_server(("127.0.0.1", port))
connection, _ = server.accept()
connection.recv(4096)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
connection.close()
print("said what it had to say")
sys.exit(3)
"""
_NEVER_READY = """#!/bin/sh
trap '' TERM
while :; do sleep 1 & wait $!; done
"""


def scripted(folder: Path, script: str) -> TritonEnvironment:
    server = folder / "server"
    server.write_text(script.format(python=sys.executable))
    server.chmod(0o755)
    return TritonEnvironment(
        folder=folder,
        python=Path(sys.executable),
        python_version="3.11",
        server=server,
        backends=folder,
        library_path=(),
    )


def test_backoff_doubles_up_to_thirty_seconds(tmp_path: Path) -> None:
    async def scenario() -> list[float]:
        waits: list[float] = []
        enough = asyncio.Event()

        async def sleep(seconds: float) -> None:
            if seconds < 0.5:  # polling for readiness
                await pause(0.005)
                return
            task = asyncio.current_task()
            if task is not None and "pulse" in task.get_name():  # its turn never comes
                await asyncio.Event().wait()
            waits.append(seconds)
            if len(waits) == 9:
                enough.set()
                await asyncio.Event().wait()

        async with triton(scripted(tmp_path, _ANSWERS_ONCE), tmp_path, sleep=sleep) as process:
            await process.start()
            await asyncio.wait_for(enough.wait(), 60)
            assert process.restarts == 8
        return waits

    assert asyncio.run(scenario()) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        async with triton(scripted(tmp_path, _NEVER_READY), tmp_path, ready_timeout_s=0.2, stop_grace_s=0.2) as process:
            with pytest.raises(TritonStartError, match=r"not ready after 0\.2 s"):
                await process.start()
            assert not process.state_path.exists()
            return [process.server_pid] if process.server_pid else []

    assert asyncio.run(scenario()) == []


def test_a_large_log_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text("x" * 100)

    async def scenario() -> None:
        async with triton(scripted(tmp_path, _ANSWERS_ONCE), tmp_path, log_bytes=99) as process:
            await process.start()

    asyncio.run(scenario())
    assert (tmp_path / "triton.log.1").read_text() == "x" * 100
    assert "x" not in log.read_text()


def test_leftovers_are_ended_only_if_they_are_the_same_process(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    prefix = f"sluice_test_{os.getpid()}_left_"
    shared, another = Path(f"/dev/shm/{prefix}1"), Path(f"/dev/shm/x{prefix}1")

    def written(shim: tuple[int, int]) -> None:
        marks = {"owner": [1, 1], "shim": shim, "server": [child.pid, 1], "shm_prefix": prefix}
        state.write_text(json.dumps(marks))

    child = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    try:
        started = started_at(child.pid)
        assert started is not None
        # Another start time: the id was reused by somebody else's process.
        written((child.pid, started + 1))
        assert leftovers.kill_leftovers(state) == 0
        assert child.poll() is None
        written((child.pid, started))
        shared.touch()
        another.touch()
        assert leftovers.kill_leftovers(state) == 1
        assert wait_gone([child.pid])
        assert not state.exists()
        assert not shared.exists(), "the shim would have removed it"
        assert another.exists()
    finally:
        shared.unlink(missing_ok=True)
        another.unlink(missing_ok=True)
        child.kill()
        child.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": 1}', '{"owner": [1], "shim": [1, 2], "server": [1, 2]}'])
def test_a_broken_state_file_harms_nothing(tmp_path: Path, content: str) -> None:
    state = tmp_path / "state.json"
    state.write_text(content)
    assert leftovers.read_state(state) is None
    assert leftovers.kill_leftovers(state) == 0
    assert not state.exists()


def test_a_process_is_known_by_id_and_start_time() -> None:
    started = started_at(os.getpid())
    assert started is not None
    assert ProcessMark(os.getpid(), started).alive
    assert not ProcessMark(os.getpid(), started - 1).alive
