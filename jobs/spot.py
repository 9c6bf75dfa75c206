"""A spot market in small: takes preemptible jobs away at random instants, as a cloud does.

Decides when, whom and how (notice first, or gone at once) from a seeded source, so that a bad run can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.errors import Refused
from jobs.runner import Runner


@dataclass(frozen=True, slots=True)
class Loss:
    """One job taken away; `notice` is whether it is told first."""

    job: int
    notice: bool


class SpotSimulator:
    """Draws losses: on average one every `mean_s` seconds, `kill_share` of them without notice."""

    def __init__(self, seed: int, mean_s: float, kill_share: float = 0.5) -> None:
        self._random = random.Random(seed)
        self._mean_s = mean_s
        self._kill_share = kill_share

    def pause_s(self) -> float:
        """Returns the time to the next loss (exponential: the past says nothing about the next)."""
        return self._random.expovariate(1.0 / self._mean_s)

    def loss(self, jobs: Sequence[int]) -> Loss | None:
        """Returns who is taken away of `jobs`; None if there is nobody."""
        if not jobs:
            return None
        return Loss(self._random.choice(sorted(jobs)), self._random.random() >= self._kill_share)


async def simulate(runner: Runner, simulator: SpotSimulator, stop: asyncio.Event) -> None:
    """Takes running preemptible jobs away until `stop`."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(simulator.pause_s()):
                await stop.wait()
        able = [record.id for record in runner.running() if record.job.preemptible]
        if not stop.is_set() and (loss := simulator.loss(able)) is not None:
            with contextlib.suppress(Refused):
                runner.preempt(loss.job, evict=not loss.notice)
