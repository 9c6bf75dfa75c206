"""A training that is killed, preempted and taken away again and again ends exactly as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs import files, processes, reading
from jobs.sampler import Sampler
from jobs.spot import Loss, SpotSimulator, simulate
from tests.jobs.training import BATCH, ROWS
from tests.jobs.world import MEMORY, ROOT, World, world

STEPS = 900
JOB: dict[str, Any] = {
    "function": "tests.jobs.training:main",
    "parameters": {"steps": STEPS, "every": 10},
    "folder": str(ROOT),
    "seed": 5,
    "preemptible": True,
    "outputs": ["model.npz"],
    "interruptions": 1000,
    "grace_s": 10,
}
Arrays = dict[str, npt.NDArray[Any]]


def result(w: World, number: int) -> Arrays:
    with np.load(w.state.outputs(number) / "model.npz") as arrays:
        return dict(arrays)


def check(undisturbed: Arrays, disturbed: Arrays) -> None:
    for name, array in undisturbed.items():
        assert array.tobytes() == disturbed[name].tobytes(), name
    sampler = Sampler(ROWS, BATCH, 5)
    expected = np.concatenate([sampler.next() for _ in range(STEPS)])
    assert np.array_equal(disturbed["ledger"], expected), "a batch was left out or came twice"


@pytest.fixture(scope="module")
def undisturbed() -> Arrays:
    """What the training makes when nothing happens to it."""

    async def story() -> Arrays:
        with tempfile.TemporaryDirectory(prefix="sluice-jobs-", dir=MEMORY) as folder:
            async with world(Path(folder)) as w:
                number = await w.submit(**JOB)
                await w.ended(number)
                return result(w, number)

    return asyncio.run(story())


def test_killed_at_twenty_random_instants(tmp_path: Path, undisturbed: Arrays) -> None:
    source = random.Random(11)
    instants = sorted(source.sample(range(STEPS - 150), 20))

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(**JOB)
            for kill, instant in enumerate(instants, 1):
                await reached(w, number, kill, instant)
                # Anywhere within the next steps, the saving of a checkpoint included.
                await asyncio.to_thread(signal.sigtimedwait, [signal.SIGRTMAX], source.uniform(0, 0.02))
                program = main_of(w, number, kill)
                assert program is not None
                os.kill(program, signal.SIGKILL)
            assert (await w.ended(number)).state == "succeeded"
            reasons = [run.reason for run in w.store.attempts(number)]
            assert reasons == ["lost"] * 20 + ["success"]
            check(undisturbed, result(w, number))
            steps = [row["step"] for row in reading.metrics(w.state.metrics(number))]
            assert steps == list(range(1, STEPS + 1))

    asyncio.run(story())


async def reached(w: World, number: int, attempt: int, step: int) -> None:
    """Returns when this attempt has done the step."""
    began: list[float] = []

    def there() -> bool:
        runs = w.store.attempts(number)
        if len(runs) != attempt or runs[-1].ended_at is not None or main_of(w, number, attempt) is None:
            return False
        began.append(runs[-1].started_at)
        rows = [row for row in reading.metrics(w.state.metrics(number)) if row["at"] > began[0]]
        return bool(rows) and rows[-1]["step"] >= step

    await w.until(there, f"attempt {attempt} does step {step}")


def main_of(w: World, number: int, attempt: int) -> int | None:
    """Returns the process id of the job's program."""
    claim = files.read_json(w.state.attempt(number, attempt) / "claim.json")
    children = processes.living(processes.children_of(claim["pid"])) if claim else set()
    return min(children, default=None)


def test_a_spot_market_changes_nothing(tmp_path: Path, undisturbed: Arrays) -> None:
    """Losses come when the training has got so far, not after so many seconds: a quick machine is lost as often."""

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(**JOB)
            market = ProgressMarket(w, number, [100, 250, 400, 550, 700])
            await simulate(w.runner, market, market.closed)
            record = await w.ended(number)
            assert record.state == "succeeded"
            assert record.interruptions == 5
            check(undisturbed, result(w, number))

    asyncio.run(story())


class ProgressMarket(SpotSimulator):
    """A market whose next loss comes when the job has done so many steps."""

    def __init__(self, w: World, number: int, steps: list[int]) -> None:
        super().__init__(seed=3, mean_s=1.0)
        self.closed = asyncio.Event()
        self._w, self._number, self._steps, self._taken = w, number, steps, 0

    def pause_s(self) -> float:
        return 0.02

    def loss(self, jobs: Sequence[int]) -> Loss | None:
        runs = self._w.store.attempts(self._number)
        if len(runs) != self._taken + 1 or main_of(self._w, self._number, len(runs)) is None:
            return None
        rows = reading.metrics(self._w.state.metrics(self._number))
        if not rows or rows[-1]["at"] < runs[-1].started_at or rows[-1]["step"] < self._steps[self._taken]:
            return None
        self._taken += 1
        if self._taken == len(self._steps):
            self.closed.set()
        return super().loss(jobs)


def test_notice_saves_before_it_ends(tmp_path: Path) -> None:
    rarely = JOB | {"parameters": {"steps": 200, "every": 10**6}}

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(**rarely)
            await reached(w, number, 1, 50)
            w.runner.preempt(number)
            record = await w.ended(number)
            assert (record.state, record.interruptions) == ("succeeded", 1)
            first = w.store.attempts(number)[0]
            assert first.record is not None
            assert (first.reason, first.record["exit_code"]) == ("preempted", 75)
            assert len(result(w, number)["ledger"]) == 200 * BATCH

    asyncio.run(story())
