"""The real version manager in seeded worlds: pointers change, loads fail, replicas die and come back, callers go on.

In every world: what is accepted is answered exactly once, by a version that is loaded where it was sent; a replica does
one load or unload at a time; when the world calms down, exactly what is desired is loaded everywhere. With
availability first, a model that was ready stays ready, unless the last replica that could answer for it died.
"""

from __future__ import annotations

import pytest

from gateway.core.reconciling import SwapPolicy
from gateway.errors import ErrorCode, GatewayError
from gateway.versions import ModelVersion
from tests.support.engine import SECOND, Caller
from tests.support.swapping import Swapping
from tests.support.virtual_loop import pause, run

BAD = 4
"""A version that can never be loaded."""


class World:
    """`steps` events, then calm."""

    def __init__(self, seed: int, policy: SwapPolicy, replicas: int) -> None:
        self.world = Swapping(
            seed, replicas, policy=policy, drain_limit=2 * SECOND, orphan_age=3 * SECOND, look_seconds=2.0
        )
        self.rng = self.world.rng
        self.promised = False
        self.strict = policy is SwapPolicy.AVAILABILITY
        self.callers: list[Caller] = []
        self.flaky = 0.0
        for one in self.world.replicas:
            one.fault = self._fault

    def _fault(self, version: ModelVersion) -> str | None:
        if version.number == BAD:
            return "is broken"
        return "bad luck" if self.rng.random() < self.flaky else None

    async def play(self, steps: int) -> None:
        world = self.world
        world.source.wanted = {"m": (1,)}
        world.manager.start()
        await world.manager.settled()
        self.promised = True
        for _ in range(steps):
            self._event()
            for _ in range(self.rng.randint(1, 60)):
                await pause(0.03)
                self._look()
        await self._calm()

    def _event(self) -> None:
        world, rng = self.world, self.rng
        kind = rng.choice(["want", "want", "want", "die", "back", "flaky", "leave", "error", "orphan"])
        if kind == "want":
            numbers = rng.sample(range(1, 7), rng.choice([1, 1, 1, 2]))
            world.source.wanted["m"] = tuple(numbers)
            world.source.decisions += 1
        elif kind == "die":
            self._die(rng.randrange(len(world.replicas)))
        elif kind == "back":
            for index, one in enumerate(world.replicas):
                if not one.available:
                    world.come_back(index)
        elif kind == "flaky":
            self.flaky = rng.choice([0.0, 0.3, 0.9])
        elif kind == "leave" and rng.random() < 0.2:
            world.source.wanted["m"] = ()
            self.promised = False
        elif kind == "error":
            world.source.error = None if world.source.error else "away"
        elif kind == "orphan":
            rng.choice(world.replicas).versions.add(ModelVersion("left", 3))

    def _die(self, index: int) -> None:
        world = self.world
        route = world.service.table.routes.get("m")
        routed = ModelVersion("m", route.targets[0][0]) if route is not None else None
        world.die(index)
        if not any(routed in replica.ready_versions for replica in world.set.replicas):
            self.promised = False

    def _look(self) -> None:
        """One caller comes, and what was promised is checked."""
        service = self.world.service
        ready = service.versions.get("m") is not None and service.model_ready("m", None)
        if ready:
            self.promised = self.strict and bool(self.world.source.wanted["m"])
        elif self.strict:
            assert not self.promised, "a model that was ready is not any more"
        refusal = None
        try:
            self.callers.append(self.world.ask())
        except GatewayError as error:
            refusal = error.code
        assert refusal in (None, ErrorCode.MODEL_NOT_READY, ErrorCode.MODEL_NOT_FOUND)
        assert ready == (refusal is None), "readiness must say what an inference would hear"

    async def _calm(self) -> None:
        world = self.world
        self.flaky = 0.0
        world.source.error = None
        for index in range(len(world.replicas)):
            world.come_back(index)
        world.source.wanted["m"] = (3, 2)
        world.source.decisions += 1
        await pause(120)
        for one in world.replicas:
            assert one.versions == {ModelVersion("m", 3), ModelVersion("m", 2)}, one.name
        assert world.service.table.routes["m"].targets == ((3, 10_000),)
        assert world.service.server_ready()
        assert world.service.in_flight == 0
        assert all(caller.answered for caller in self.callers)
        assert world.manager.failures() == {}
        await world.manager.close()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("replicas", [1, 3])
def test_availability_first(seed: int, replicas: int) -> None:
    run(_play(seed, SwapPolicy.AVAILABILITY, replicas))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("replicas", [1, 2])
def test_resources_first(seed: int, replicas: int) -> None:
    run(_play(seed, SwapPolicy.RESOURCE, replicas))


async def _play(seed: int, policy: SwapPolicy, replicas: int) -> None:
    await World(seed, policy, replicas).play(12)
