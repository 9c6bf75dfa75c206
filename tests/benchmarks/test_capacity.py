"""The search for the capacity: upwards, downwards, and never a number that was not measured."""

from __future__ import annotations

from typing import Any, cast

import pytest

from benchmarks.loads import LoadFailed
from benchmarks.scenarios import openloop
from benchmarks.scenarios.session import Session


class World:
    """Stands for a session on a server that carries `capacity` requests/s; the first `hiccups` runs go wrong."""

    def __init__(self, capacity: float, hiccups: int = 0) -> None:
        self.capacity, self.hiccups, self.runs = capacity, hiccups, 0

    def open_loop(self, arm: str, model: str, protocol: str, rate: float, **_: Any) -> dict[str, Any]:
        self.runs += 1
        good = rate <= self.capacity and self.runs > self.hiccups
        return {"in_time_share": 1.0 if good else 0.5, "valid": True, "invalid_because": []}

    def say(self, text: str) -> None: ...


@pytest.mark.parametrize("capacity", [600.0, 3000.0, 9000.0, 25_000.0])
@pytest.mark.parametrize("hiccups", [0, 1])
def test_the_capacity_is_found_within_a_step(capacity: float, hiccups: int) -> None:
    world = World(capacity, hiccups)
    found = openloop._open_capacity(cast(Session, world))
    assert capacity / 2 <= found <= capacity
    assert world.runs <= 20


def test_a_server_that_carries_nothing_has_no_capacity() -> None:
    with pytest.raises(LoadFailed, match="busy"):
        openloop._open_capacity(cast(Session, World(0.0)))
