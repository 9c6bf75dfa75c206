"""A data-parallel job that loses ranks, or is told to give way, ends exactly as one that nothing happened to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs import processes, reading, torchrun
from jobs.sampler import Sampler
from tests.jobs.world import MEMORY, ROOT, World, world
from tests.training.data_parallel import BATCH, ROWS

STEPS = 240
JOB: dict[str, Any] = {
    "function": "tests.training.data_parallel:main",
    "parameters": {"steps": STEPS, "every": 25},
    "ranks": 2,
    "resources": {"cpus": 2},
    "folder": str(ROOT),
    "seed": 5,
    "preemptible": True,
    "outputs": ["model.npz"],
    "grace_s": 20,
}
Arrays = dict[str, npt.NDArray[Any]]


def result(w: World, number: int) -> Arrays:
    with np.load(w.state.outputs(number) / "model.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def undisturbed() -> Arrays:
    async def story() -> Arrays:
        with tempfile.TemporaryDirectory(prefix="sluice-jobs-", dir=MEMORY) as folder:
            async with world(Path(folder)) as w:
                number = await w.submit(**JOB)
                assert (await w.ended(number)).state == "succeeded", w.log(number)[-2000:]
                return result(w, number)

    return asyncio.run(story())


async def reached(w: World, number: int, attempt: int, step: int) -> None:
    def there() -> bool:
        runs = w.store.attempts(number)
        if len(runs) != attempt or runs[-1].ended_at is not None:
            return False
        rows = reading.metrics(w.state.metrics(number))
        return bool(rows) and rows[-1]["at"] > runs[-1].started_at and rows[-1]["step"] >= step

    await w.until(there, f"attempt {attempt} does step {step}")


def process_of_rank(w: World, number: int, rank: int) -> int:
    for pid in w.alive(number):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in environment:
            return pid
    raise AssertionError(f"there is no rank {rank}")


def test_lost_ranks_and_a_notice_change_nothing(tmp_path: Path, undisturbed: Arrays) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(**JOB)
            for attempt, (rank, step) in enumerate([(1, 60)], 1):
                await reached(w, number, attempt, step)
                os.kill(process_of_rank(w, number, rank), signal.SIGKILL)
            await reached(w, number, 2, 130)
            w.runner.preempt(number)
            record = await w.ended(number)
            assert record.state == "succeeded", w.log(number)[-2000:]
            assert [run.reason for run in w.store.attempts(number)] == ["lost", "preempted", "success"]
            assert not w.alive(number)
            disturbed = result(w, number)
            for name, array in undisturbed.items():
                assert array.tobytes() == disturbed[name].tobytes(), name
            sampler = Sampler(ROWS, BATCH, 5)
            assert np.array_equal(disturbed["ledger"], np.concatenate([sampler.next() for _ in range(STEPS)]))

    asyncio.run(story())


def test_a_rank_that_fails_fails_the_job(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            script = "import os, sys; sys.exit(3 if os.environ['RANK'] == '1' else 0)"
            number = await w.submit("python", "-c", script, ranks=2)
            record = await w.ended(number)
            assert (record.state, record.reason, record.detail) == ("failed", "error", "ended with exit code 3")

    asyncio.run(story())


def test_ranks_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Nobody is left to end them: no keeper and no runner."""
    script = (
        "import os, pathlib, signal, sys\n"
        "pathlib.Path(sys.argv[1], os.environ['RANK']).write_text(str(os.getpid()))\n"
        "signal.pause()"
    )
    command = [sys.executable, str(ROOT / "jobs" / "torchrun.py"), "2", sys.executable, "-c", script, str(tmp_path)]

    async def story() -> None:
        async with world(tmp_path / "runner") as w:
            started = await asyncio.create_subprocess_exec(*command)
            ranks: list[int] = []
            try:
                ranks += [int(await w.file(tmp_path / str(rank))) for rank in range(2)]
                assert processes.living(ranks) == set(ranks)
                started.kill()
                await started.wait()
                await w.until(lambda: not processes.living(ranks), "the ranks end")
            finally:
                if started.returncode is None:
                    started.kill()
                processes.send(ranks, signal.SIGKILL)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("codes", "first", "expected"),
    [({1: -9}, 1, -9), ({0: 1, 1: -9}, 0, -9), ({0: 75, 1: 75}, 1, 75), ({0: 1, 1: 75}, 0, 75), ({1: -11}, 1, 139)],
)
def test_exit_code(codes: dict[int, int], first: int, expected: int) -> None:
    assert torchrun.exit_code(codes, first) == expected
