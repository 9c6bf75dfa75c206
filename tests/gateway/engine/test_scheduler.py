"""The scheduler performs what the batcher decides, answers each caller once, and nobody's failure is another's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.engine.outstanding import Outstanding
from gateway.errors import ErrorCode, GatewayError
from gateway.tensors import DataType, TensorSpec
from tests.support.engine import METADATA, MILLISECOND, SECOND, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_lone_request_leaves_in_the_same_turn(world: World) -> None:
    caller = world.ask((1, 2))
    world.clock.settle()
    assert len(world.backend.calls) == 1
    world.backend.calls[0].echo()
    assert caller.values == [1, 2]
    assert world.service.in_flight == 0


def test_requests_of_one_turn_share_a_batch_and_each_gets_its_own_rows(world: World) -> None:
    callers = [world.ask((i, -i)) for i in range(3)] + [world.ask((7, 8), (9, 10))]
    world.clock.settle()
    (call,) = world.backend.calls
    assert call.request.rows == 5
    assert call.request.shapes == ((5, 2),)
    call.echo()
    assert [caller.values for caller in callers] == [[0, 0], [1, -1], [2, -2], [7, 8, 9, 10]]


def test_batches_grow_while_the_backend_is_busy(world: World) -> None:
    for i in range(2):
        world.ask((i, i))
        world.clock.settle()
    waiting = [world.ask((i, i)) for i in range(5)]
    world.clock.settle()
    assert len(world.backend.calls) == 2
    for running in world.backend.calls[:2]:
        running.echo()
    world.clock.settle()
    assert world.backend.calls[2].request.rows == 5
    world.backend.calls[2].echo()
    assert [caller.values[0] for caller in waiting] == [0, 1, 2, 3, 4]


def test_a_batch_of_one_is_not_copied(world: World) -> None:
    world.ask((1, 2))
    world.clock.settle()
    (chunks,) = world.backend.calls[0].request.chunks
    assert len(chunks) == 1


def test_rows_not_requests_bound_a_batch(world: World) -> None:
    for _ in range(4):
        world.ask((1, 1), (2, 2), (3, 3))
    world.clock.settle()
    assert [call.request.rows for call in world.backend.calls] == [6, 6]


def test_a_caller_who_leaves_the_queue_is_forgotten(world: World) -> None:
    for i in range(2):
        world.ask((i, i))
        world.clock.settle()
    gone, stays = world.ask((5, 5)), world.ask((6, 6))
    assert gone.pending is not None
    gone.pending.withdraw()
    gone.pending.withdraw()
    for running in world.backend.calls[:2]:
        running.echo()
    world.clock.settle()
    assert world.backend.calls[2].request.rows == 1
    world.backend.calls[2].echo()
    assert stays.values == [6, 6]
    assert not gone.answered
    assert world.observer.requests.count(ErrorCode.CANCELLED) == 1


def test_a_caller_who_leaves_a_running_batch_is_skipped_and_the_rest_answered(world: World) -> None:
    gone, stays = world.ask((1, 1)), world.ask((2, 2))
    world.clock.settle()
    assert gone.pending is not None
    gone.pending.withdraw()
    assert not world.backend.calls[0].cancelled
    world.backend.calls[0].echo()
    assert stays.values == [2, 2]
    assert not gone.answered


def test_when_all_members_left_the_call_is_cancelled_and_the_slot_comes_back_a_while_later(world: World) -> None:
    callers = [world.ask((1, 1)), world.ask((2, 2))]
    world.clock.settle()
    for caller in callers:
        assert caller.pending is not None
        caller.pending.withdraw()
    assert world.backend.calls[0].cancelled
    assert not world.scheduler.in_flight
    assert world.replica.in_flight, "Triton may still be executing it"
    world.clock.advance(2 * SECOND)
    assert not world.replica.in_flight


def test_a_stalled_backend_is_not_fed_with_work_that_nobody_waits_for(world: World) -> None:
    for _ in range(100):
        world.ask((1, 1), timeout=SECOND)
        world.clock.advance(SECOND)
    assert len(world.backend.calls) < 14, "two slots, held longer after each batch without an answer"
    assert world.service.in_flight <= 1


def test_deadlines_fire_while_queued_even_when_no_slot_is_free(world: World) -> None:
    for i in range(2):
        world.ask((i, i))
        world.clock.settle()
    late = world.ask((3, 3), timeout=50 * MILLISECOND)
    world.clock.advance(49 * MILLISECOND)
    assert not late.answered
    world.clock.advance(2 * MILLISECOND)
    assert late.error is not None
    assert late.error.code is ErrorCode.DEADLINE_EXCEEDED


def test_deadlines_fire_while_running_and_neighbours_are_still_answered(world: World) -> None:
    late, patient = world.ask((1, 1), timeout=50 * MILLISECOND), world.ask((2, 2))
    world.clock.advance(60 * MILLISECOND)
    assert late.error is not None
    assert late.error.code is ErrorCode.DEADLINE_EXCEEDED
    world.backend.calls[0].echo()
    assert patient.values == [2, 2]


def test_a_running_batch_whose_members_all_expired_is_cancelled(world: World) -> None:
    world.ask((1, 1), timeout=50 * MILLISECOND)
    world.clock.advance(60 * MILLISECOND)
    assert world.backend.calls[0].cancelled
    assert world.service.in_flight == 0
    assert not world.scheduler.in_flight


def test_the_backend_is_told_the_remaining_time(world: World) -> None:
    world.ask((1, 1), timeout=3 * SECOND)
    world.clock.settle()
    assert world.backend.calls[0].request.timeout == 3 * SECOND


def test_unbatched_models_pass_through_one_by_one() -> None:
    metadata = replace(
        METADATA,
        max_batch_size=0,
        inputs=(TensorSpec("x", DataType.FP32, (-1, 2)),),
        outputs=(TensorSpec("x", DataType.FP32, (-1, 2)),),
    )
    world = World(metadata, slots=2)
    callers = [world.ask((i, i)) for i in range(3)]
    world.clock.settle()
    assert [call.request.rows for call in world.backend.calls] == [1, 1]
    for index in range(3):
        world.backend.calls[index].echo()
        world.clock.settle()
    assert [caller.values for caller in callers] == [[0, 0], [1, 1], [2, 2]]


def test_everything_returns_to_zero_after_a_storm(world: World) -> None:
    callers = []
    for round_ in range(50):
        callers += [world.ask((i, round_), timeout=(i + 1) * 5 * MILLISECOND) for i in range(6)]
        world.clock.advance(MILLISECOND)
        for call in world.backend.calls[-2:]:
            if not call.cancelled:
                call.echo()
                call.cancelled = True
        if round_ % 3 == 0 and callers[-1].pending is not None:
            callers[-1].pending.withdraw()
        pending = world.scheduler.pending.values()
        assert world.service.outstanding.requests == len(pending)
        assert world.service.outstanding.nbytes == sum(one.nbytes for one in pending)
    world.clock.advance(SECOND)
    for call in world.backend.calls:
        if not call.cancelled:
            call.echo()
    world.clock.advance(SECOND)
    assert world.service.in_flight == 0
    assert not world.scheduler.in_flight
    assert not world.replica.in_flight
    assert world.service.outstanding.nbytes == 0
    assert len(world.scheduler.batcher) == 0
    assert len(world.observer.requests) == len(callers)


def test_what_is_pending_counts_in_the_total_that_a_scheduler_joins(world: World) -> None:
    world.ask((1, 1))
    caller = world.ask((1, 1), (2, 2))
    total, before = Outstanding(), world.service.outstanding
    world.scheduler.pending.join(total)
    world.scheduler.pending.join(total)
    assert (total.requests, total.nbytes) == (2, 24)
    assert (before.requests, before.nbytes) == (0, 0)
    assert caller.pending is not None
    caller.pending.withdraw()
    assert (total.requests, total.nbytes) == (1, 8)
    world.scheduler.fail_all(GatewayError(ErrorCode.SHUTTING_DOWN, "gone"))
    assert (total.requests, total.nbytes) == (0, 0)
