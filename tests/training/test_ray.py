"""Jobs on a real Ray cluster of two nodes on this machine, one of which is killed in the middle of a job."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from jobs.executors.ray import RayExecutor
from jobs.queueing import Amount
from jobs.runner import Runner
from jobs.slots import RunnerSettings
from jobs.state_folder import StateFolder
from jobs.store import Store
from tests.jobs.world import World, shell
from tests.registry_stores.servers import free_ports

PATIENCE_S = 240
RAY = str(Path(sys.executable).parent / "ray")


@contextmanager
def node(log: Path, *options: str) -> Iterator[int]:
    """Runs a node; yields the id of its process group, which is ended at last."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "200"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [RAY, "start", "--block", "--num-cpus", "1", "--object-store-memory", "80000000", *options],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def nodes(dashboard: str) -> int:
    import json

    try:
        with urllib.request.urlopen(f"{dashboard}/nodes?view=summary", timeout=5) as response:
            summary = json.loads(response.read())["data"]["summary"]
        return sum(entry["raylet"].get("state") == "ALIVE" for entry in summary)
    except (OSError, KeyError, ValueError):
        return 0


def wait_for_nodes(dashboard: str, count: int, logs: list[Path]) -> None:
    for _ in range(PATIENCE_S * 2):
        if nodes(dashboard) == count:
            return
        signal.sigtimedwait([signal.SIGRTMAX], 0.5)
    raise AssertionError("\n".join(log.read_text()[-2000:] for log in logs))


@pytest.fixture
def short_path() -> Iterator[Path]:
    # Ray's sockets lie below it: their paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        yield Path(folder)


def test_a_node_that_dies_takes_an_attempt_and_no_job(tmp_path: Path, short_path: Path) -> None:
    port, board = free_ports(2)
    dashboard = f"http://127.0.0.1:{board}"
    logs = [short_path / "head.log", short_path / "other.log"]
    with ExitStack() as stack:
        stack.enter_context(
            node(logs[0], "--head", "--port", str(port), "--dashboard-host", "127.0.0.1", "--dashboard-port",
                 str(board), "--node-ip-address", "127.0.0.1", "--temp-dir", str(short_path))
        )  # fmt: skip
        wait_for_nodes(dashboard, 1, logs[:1])
        other = stack.enter_context(node(logs[1], "--address", f"127.0.0.1:{port}", "--node-ip-address", "127.0.0.1"))
        wait_for_nodes(dashboard, 2, logs)
        asyncio.run(story(tmp_path, dashboard, other))


async def story(folder: Path, dashboard: str, other: int) -> None:
    state = StateFolder(folder / "state")
    state.lock()
    with Store(state.root) as store:
        runner = Runner(
            state, store, RayExecutor(dashboard), RunnerSettings(capacity=Amount(2, 0, 0), min_free_bytes=0)
        )
        task = asyncio.get_running_loop().create_task(runner.run())
        w = World(runner, store, state)
        go = folder / "go"
        # Each says in which Ray node's session it runs, and ends when it may.
        script = f"echo $RAY_NODE_ID > $SLUICE_OUTPUT_FOLDER/node; until test -e {go}; do sleep 0.1; done; echo done"
        jobs = [await w.submit(*shell(script), outputs=["node"]) for _ in range(2)]
        for number in jobs:
            await until(w, lambda number=number: (state.outputs(number) / "node").exists(), f"job {number} runs")
        os.killpg(other, signal.SIGKILL)
        await until(w, lambda: any(len(store.attempts(number)) > 1 for number in jobs), "one is lost")
        go.touch()
        for number in jobs:
            await until(w, lambda number=number: store.known(number).state.final, f"job {number} ends")
        reasons = sorted([run.reason for run in store.attempts(number)] for number in jobs)
        assert reasons == [["lost", "success"], ["success"]]
        assert all(b"done" in w.log(number) for number in jobs)
        runner.close()
        await task
        state.unlock()


async def until(w: World, condition: Any, what: str) -> None:
    """As `World.until`, with more patience: Ray takes its time."""
    for _ in range(4):
        try:
            await w.until(condition, what)
        except AssertionError:
            continue
        return
    raise AssertionError(f"not in time: {what}")
