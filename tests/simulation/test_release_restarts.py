"""A gateway is killed at every step of a release, again and again: it comes back to the same step and assignment.

In every world: a caller is answered by the version that its key belongs to, or, while that one is not ready, by the
stable one; a gateway that says it is ready routes exactly as before the kill.
"""

from __future__ import annotations

import random

import pytest

from gateway.core.release_routes import route_of
from gateway.core.routing import decide
from gateway.errors import GatewayError
from gateway.releases import Release
from tests.support.releases import WEIGHTS, plan, running
from tests.support.swapping import Source, Swapping
from tests.support.virtual_loop import pause, run

KEYS = [f"user-{n}" for n in range(300)]


def assignment(release: Release) -> dict[str, int]:
    route = route_of(release, 1, {1, 2})
    return {key: decide(route, key, {}, {}).version for key in KEYS}


def routed(world: Swapping) -> dict[str, int]:
    route = world.service.table.routes["m"]
    return {key: decide(route, key, {}, {}).version for key in KEYS}


async def live(source: Source, seed: int, release: Release, rng: random.Random) -> None:
    """One life of the gateway: it comes up, serves a while, and is gone without a word."""
    world = Swapping(seed, rng.choice([1, 2]), source)
    world.manager.start()
    expected = assignment(release)
    was_ready = False
    for _ in range(rng.randint(1, 120)):
        await pause(0.05)
        ready = world.service.server_ready()
        assert ready or not was_ready
        was_ready = ready
        if ready:
            assert routed(world) == expected, "ready, but not as before"
        key = rng.choice(KEYS)
        try:
            pending = world.ask(key=key).pending
        except GatewayError:
            assert not ready
            continue
        assert pending is not None
        version = pending.scheduler.version.number
        assert version == expected[key] or (version == 1 and not ready)
    await world.manager.close()


async def play(seed: int, step: int) -> None:
    rng = random.Random(f"{seed}-{step}")
    source = Source()
    release = running(plan(), step)
    source.released["m"] = release
    source.wanted["m"] = (1, 2)
    for life in range(4):
        await live(source, seed * 10 + life, release, rng)
    last = Swapping(seed, 1, source)
    last.manager.start()
    await last.manager.settled()
    assert routed(last) == assignment(release)
    share = sum(weight for number, weight in last.service.table.routes["m"].targets if number == 2)
    assert share == WEIGHTS[step]
    await last.manager.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("step", range(len(WEIGHTS)))
def test_killed_at_every_step(seed: int, step: int) -> None:
    run(play(seed, step))
