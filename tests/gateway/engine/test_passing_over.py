"""Arrivals that ask for no decision, because they only join what is held back or wait for a slot."""

from __future__ import annotations

import struct

import pytest

from gateway.backends.echo import EchoCall
from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache
from gateway.core.plans import BatchLimits
from gateway.engine.batch import Batch
from gateway.engine.flights import Flights
from gateway.engine.scheduler import VersionScheduler
from gateway.messages import InferRequest
from tests.support.engine import MILLISECOND, SECOND, Caller, World

US = 1_000


@pytest.fixture
def world() -> World:
    """A brief model whose costs are known, and which has polled with a free slot."""
    made = World()
    for _ in range(40):
        for rows, elapsed in ((1, 300 * US), (8, 500 * US)):
            made.scheduler.profile.observe(rows, elapsed)
    for _ in range(30):
        made.ask((1, 1))
        made.clock.settle()
        made.clock.advance(300 * US)
        made.backend.calls[-1].echo()
        made.clock.settle()
        made.clock.advance(300 * US)
    return made


def echo(batch: Batch) -> None:
    assert isinstance(batch.call, EchoCall)
    batch.call.echo()


def test_slots_that_another_queue_of_the_version_held_are_used_when_they_are_free(world: World) -> None:
    profile = CostProfile()
    draining = VersionScheduler(
        world.version, Batcher(BatchLimits(max_rows=8), profile), profile, Flights(world.version, world.replicas, 1, 2),
        world.clock, world.observer, HeadCache(), lambda version, replica: None,
    )  # fmt: skip
    for _ in range(2):
        head = world.head(1)
        request = InferRequest(head, "", [struct.pack("<2f", 1, 2)])
        draining.submit(request, world.context(), Caller(), world.served.check(head), 8)
        world.clock.settle()
    before = len(world.backend.calls)
    assert len(draining.in_flight) == 2
    world.ask((1, 1), timeout=SECOND)
    world.clock.settle()
    assert len(world.backend.calls) == before, "no slot is free"
    for call in world.backend.calls[-2:]:
        call.echo()
    world.clock.settle()
    world.ask((2, 2))
    world.clock.settle()
    assert len(world.backend.calls) > before


def test_a_turn_that_begins_with_such_an_arrival_is_measured_all_the_same(world: World) -> None:
    known = world.scheduler.profile.high(1)
    for _ in range(60):
        for _ in range(3):  # one runs, one lingers or runs too, one waits
            world.ask((1, 1))
            world.clock.settle()
        asked = len(world.backend.calls)
        world.ask((3, 3))
        world.clock.pass_time(8 * MILLISECOND)  # the loop is busy: what has come is read at the end
        for batch in list(world.scheduler.in_flight):
            echo(batch)
        world.clock.settle()
        assert len(world.backend.calls) > asked
        while world.scheduler.in_flight:
            world.clock.advance(300 * US)
            echo(next(iter(world.scheduler.in_flight)))
            world.clock.settle()
    now = world.scheduler.profile.high(1)
    assert known is not None
    assert now is not None
    assert now <= known
