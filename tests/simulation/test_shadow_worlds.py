"""What live requests wait while all of them are copied: the real scheduler, copies and batcher in virtual time.

The two versions share a machine: an execution takes longer the more others run beside it. What the simulation leaves
out is what copying itself costs the event loop; `benchmarks/shadow_cost.py` measures the whole.
"""

from __future__ import annotations

import random

import pytest

from gateway.engine.shadow import MOST_COPIES
from gateway.errors import GatewayError
from gateway.messages import InferResponse
from gateway.releases import Criteria, ReleaseKind
from tests.support.engine import Caller
from tests.support.releases import plan, running, steps
from tests.support.releasing import Releasing
from tests.support.virtual_loop import pause, run

OFF = Criteria(error_rate=None, nan_rate=None, latency_increase=None, disagreement_rate=None, score_shift=None,
               outcome_loss=None)  # fmt: skip


class Timed(Caller):
    """Notes when it was answered."""

    def __init__(self, world: Releasing) -> None:
        super().__init__()
        self.world = world
        self.began = world.clock.now()
        self.took = 0

    def succeed(self, response: InferResponse) -> None:
        super().succeed(response)
        self.took = self.world.clock.now() - self.began

    def fail(self, error: GatewayError) -> None:
        raise AssertionError(error)


async def play(seed: int, rate: float, requests: int, share: int) -> tuple[list[int], Releasing]:
    """Returns the latencies of live requests (ns, sorted) with `share` of them copied, and the world."""
    world = Releasing(seed)
    await world.start(running(plan(kind=ReleaseKind.SHADOW, steps=steps(0), shadow_share=share, criteria=OFF,
                                   judged=False)))  # fmt: skip
    one = world.replicas[0]
    one.infer_seconds = lambda: 0.002 * world.rng.uniform(0.9, 1.1) * (1.0 + 0.5 * len(one._calls))
    await pause(1)
    arrivals = random.Random(f"{seed} arrivals")
    callers = []
    for _ in range(requests):
        caller = Timed(world)
        world.submit(caller)
        callers.append(caller)
        await pause(arrivals.expovariate(rate))
    await pause(5)
    await world.manager.close()
    return sorted(caller.took for caller in callers), world


def p99(latencies: list[int]) -> int:
    return latencies[int(0.99 * len(latencies))]


@pytest.mark.parametrize(("rate", "seed"), [(150.0, 1), (400.0, 2), (900.0, 3)])
def test_live_requests_hardly_notice_that_all_of_them_are_copied(rate: float, seed: int) -> None:
    results: dict[int, tuple[list[int], Releasing]] = {}
    for share in (0, 10_000):

        async def world(share: int = share) -> None:
            results[share] = await play(seed, rate, 4000, share)

        run(world())
    without, copied = p99(results[0][0]), p99(results[10_000][0])
    watch = results[10_000][1].control.watches["m"]
    assert watch.copies + sum(watch.drops().values()) + MOST_COPIES >= 4000, "every copy was run, dropped or waits"
    assert watch.copies > 50
    assert copied <= 1.05 * without, (copied, without)
