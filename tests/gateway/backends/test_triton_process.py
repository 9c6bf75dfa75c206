"""The embedded Triton, the real one, and what happens to it when someone is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.backends import triton_shim
from gateway.backends.triton_environment import TritonEnvironment
from gateway.backends.triton_process import ProcessState, TritonStartError
from gateway.versions import ModelVersion
from tests.support.processes import ROOT, read_line
from tests.support.triton import load, placement, post, triton, wait_gone

ADD_SUB = ModelVersion("add_sub", 1)
SECONDS = 60


def add_sub(port: int) -> list[int]:
    inputs = [
        {"name": name, "datatype": "INT32", "shape": [1, 16], "data": [value] * 16}
        for name, value in (("A", 5), ("B", 3))
    ]
    answer = post(port, "/v2/models/add_sub.v1/infer", {"inputs": inputs})
    return [output["data"][0] for output in answer["outputs"]]


def test_serves_and_leaves_nothing_behind(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    async def scenario() -> None:
        await placement(tmp_path).prepare(ADD_SUB)
        async with triton(triton_environment, tmp_path) as process:
            await process.start()
            assert process.state is ProcessState.READY
            server = process.server_pid
            assert server is not None
            await asyncio.to_thread(load, process.http_port, ADD_SUB)
            assert await asyncio.to_thread(add_sub, process.http_port) == [8, 2]
            shim = triton_shim.parent_of(server)
            assert shim is not None
            everything = [shim, *triton_shim.descendants(shim)]
            assert len(everything) >= 3, "shim, server and a stub"
            assert {os.getpgid(pid) for pid in everything} == {shim}, "Ctrl-C does not reach them"
            assert {os.getsid(pid) for pid in everything} == {os.getsid(0)}, "they are scheduled with the gateway"
            shared = [name for name in os.listdir("/dev/shm") if name.startswith(process.shm_prefix)]
            assert shared
        assert process.state is ProcessState.STOPPED
        assert wait_gone(everything, 0)
        assert not [name for name in os.listdir("/dev/shm") if name.startswith(process.shm_prefix)]
        assert not process.state_path.exists()
        assert "add_sub.v1" in process.log_path.read_text()

    asyncio.run(scenario())


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_lost_server_comes_back_on_the_same_ports(
    triton_environment: TritonEnvironment, tmp_path: Path, blow: signal.Signals
) -> None:
    async def scenario() -> None:
        await placement(tmp_path).prepare(ADD_SUB)
        ready: asyncio.Queue[int] = asyncio.Queue()
        exits: list[str] = []

        async def on_ready() -> None:
            await asyncio.to_thread(load, process.http_port, ADD_SUB)
            ready.put_nowait(process.http_port)

        watched: dict[str, Any] = {"on_ready": on_ready, "on_exit": exits.append, "hang_timeout_s": 1.0}
        async with triton(triton_environment, tmp_path, **watched) as process:
            await process.start()
            port = await ready.get()
            server = process.server_pid
            assert server is not None
            below = triton_shim.descendants(server)
            os.kill(server, blow)
            assert await asyncio.wait_for(ready.get(), SECONDS) == port
            assert exits == ["tritonserver ended with status 137"]
            assert process.restarts == 1
            assert process.server_pid != server
            assert wait_gone(below, 0), "the stubs of the dead server are gone before the next one starts"
            assert await asyncio.to_thread(add_sub, port) == [8, 2]

    asyncio.run(scenario())


_PARENT = """
import asyncio, json, sys
from pathlib import Path
from typing import Any
from gateway.backends import triton_shim
from gateway.backends.triton_environment import find_environment
from gateway.versions import ModelVersion
from tests.support.triton import load, placement, triton

async def main(folder, work):
    version = ModelVersion("add_sub", 1)
    await placement(work).prepare(version)
    async with triton(find_environment(folder, work), work) as process:
        await process.start()
        await asyncio.to_thread(load, process.http_port, version)
        shim = triton_shim.parent_of(process.server_pid)
        print(json.dumps([shim, *triton_shim.descendants(shim)]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def _parent(environment: TritonEnvironment, work: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Returns a process that runs an embedded Triton with a model, and the ids of everything below it."""
    command = [sys.executable, "-c", _PARENT, str(environment.folder), str(work)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    below = json.loads(read_line(parent, SECONDS))
    assert len(below) >= 3
    return parent, below


def test_nothing_survives_the_kill_of_the_gateway(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    parent, below = _parent(triton_environment, tmp_path)
    parent.kill()
    parent.communicate()
    assert wait_gone(below)


def test_nothing_survives_the_kill_of_gateway_and_shim(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    parent, below = _parent(triton_environment, tmp_path)
    parent.kill()
    os.kill(below[0], signal.SIGKILL)
    parent.communicate()
    assert wait_gone(below)

    async def next_run() -> None:
        async with triton(triton_environment, tmp_path) as process:
            await process.start()
            assert process.state is ProcessState.READY

    asyncio.run(next_run())


def test_a_work_folder_in_use_is_refused(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    parent, below = _parent(triton_environment, tmp_path)

    async def second() -> None:
        async with triton(triton_environment, tmp_path) as process:
            await process.start()

    with pytest.raises(TritonStartError, match=rf"another gateway \(pid {parent.pid}\)"):
        asyncio.run(second())
    assert not wait_gone(below[:1], 0), "the first one's Triton was left alone"
    parent.kill()
    parent.communicate()
    assert wait_gone(below)


def test_a_taken_port_is_named_with_its_holder(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        async with triton(triton_environment, tmp_path, grpc_port=port) as process:
            await process.start()

    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(TritonStartError, match=rf"port {port} .*triton\.grpc_port.*taken by .*pid {os.getpid()}\)"):
            asyncio.run(scenario(port))


def test_a_wrong_argument_ends_with_its_reason(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with triton(triton_environment, tmp_path, extra_arguments=("--no-such-option=1",)) as process:
            await process.start()

    with pytest.raises(TritonStartError, match=r"before it was ready.*triton\.log\)"):
        asyncio.run(scenario())
