"""When things fail: nobody's failure is another's, repeats stay within budgets, and the scheduler goes on."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from gateway.backends.triton_errors import BackendUnreachable, ModelDied
from gateway.errors import ErrorCode, GatewayError
from gateway.ports import BackendResponse
from gateway.tensors import DataType, TensorSpec
from tests.support.engine import METADATA, MILLISECOND, SECOND, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_wrong_number_of_rows_answers_nobody_and_members_are_run_alone(world: World) -> None:
    callers = [world.ask((i, i)) for i in range(2)]
    world.clock.settle()
    short = BackendResponse((TensorSpec("x", DataType.FP32, (1, 2)),), [struct.pack("<2f", 0, 0)])
    world.backend.calls[0].answer(short)
    world.clock.settle()
    assert not any(caller.answered for caller in callers)
    for call in world.backend.calls[1:]:
        assert call.request.rows == 1
        call.echo()
    assert [caller.values for caller in callers] == [[0, 0], [1, 1]]


def answer_all(world: World, start: int, bad: float, code: ErrorCode = ErrorCode.BACKEND_FAILED) -> None:
    """Answers every call from the `start`th on, also those that follow: a batch with a row of `bad` fails."""
    world.clock.settle()
    while start < len(world.backend.calls):
        call = world.backend.calls[start]
        start += 1
        values = struct.unpack(f"<{2 * call.request.rows}f", b"".join(call.request.chunks[0]))
        if bad in values[::2]:
            call.answer(GatewayError(code, "backend: bad value"))
        else:
            call.echo()
        world.clock.settle()


def test_one_bad_request_among_a_hundred_fails_alone() -> None:
    world = World(replace(METADATA, max_batch_size=128))
    callers = [world.ask((float(i), i)) for i in range(100)]
    answer_all(world, 0, bad=42.0)
    codes = [caller.error.code if caller.error else None for caller in callers]
    assert codes == [ErrorCode.BACKEND_FAILED if i == 42 else None for i in range(100)]
    assert len(world.backend.calls) < 20, "found by halving"


def test_one_bad_request_fails_alone(world: World) -> None:
    callers = [world.ask((i, i)) for i in range(3)]
    world.clock.settle()
    world.backend.calls[0].answer(GatewayError(ErrorCode.BACKEND_FAILED, "backend: bad value"))
    answer_all(world, 1, bad=1.0)
    assert callers[0].values == [0, 0]
    assert callers[2].values == [2, 2]
    assert callers[1].error is not None
    assert callers[1].error.code is ErrorCode.BACKEND_FAILED


def test_when_everything_fails_the_re_runs_stay_within_their_budget(world: World) -> None:
    answered = 0
    for _ in range(60):
        for i in range(8):
            world.ask((i, i))
        world.clock.settle()
        while answered < len(world.backend.calls):
            world.backend.calls[answered].answer(GatewayError(ErrorCode.BACKEND_FAILED, "backend: broken"))
            answered += 1
            world.clock.settle()
    assert world.service.in_flight == 0
    codes = set(world.observer.requests)
    assert codes == {ErrorCode.BACKEND_FAILED, ErrorCode.OVERLOADED}, (
        "nobody is blamed for what a neighbour may have done"
    )
    # 480 requests in 60 batches; the budget allows 64 re-runs and 20 for each 100 requests after that.
    assert 60 < len(world.backend.calls) <= 60 + 64 + 96


def test_innocent_requests_always_get_their_answer_beside_a_steady_share_of_bad_ones(world: World) -> None:
    for round_ in range(100):
        callers = [world.ask((float(i == round_ % 7), i)) for i in range(7)]
        seen = len(world.backend.calls)
        answer_all(world, seen, bad=1.0, code=ErrorCode.INVALID_REQUEST)
        outcomes = [caller.error.code if caller.error else None for caller in callers]
        assert outcomes == [ErrorCode.INVALID_REQUEST if i == round_ % 7 else None for i in range(7)]


def test_a_single_request_that_fails_is_not_run_again(world: World) -> None:
    caller = world.ask((1, 1))
    world.clock.settle()
    world.backend.calls[0].answer(GatewayError(ErrorCode.BACKEND_FAILED, "backend: no"))
    world.clock.settle()
    assert caller.error is not None
    assert len(world.backend.calls) == 1


def test_a_call_that_was_surely_not_executed_is_retried_once(world: World) -> None:
    caller = world.ask((1, 1))
    world.clock.settle()
    world.backend.calls[0].answer(BackendUnreachable("lost", unprocessed=True))
    world.clock.settle()
    assert not caller.answered
    world.backend.calls[1].answer(BackendUnreachable("lost", unprocessed=True))
    world.clock.settle()
    assert caller.error is not None
    assert caller.error.code is ErrorCode.BACKEND_UNREACHABLE
    assert len(world.backend.calls) == 2


def test_a_call_that_the_backend_did_not_take_is_retried_too(world: World) -> None:
    world.backend.refusal = BackendUnreachable("no connection", unprocessed=True)
    caller = world.ask((1, 1))
    world.clock.call_soon(lambda: setattr(world.backend, "refusal", None))
    world.clock.settle()
    world.backend.calls[0].echo()
    assert caller.values == [1, 1]


def test_an_observer_that_fails_leaves_nobody_without_an_answer(world: World) -> None:
    world.observer.request_done = lambda *arguments: 1 / 0  # type: ignore[method-assign, assignment]
    world.observer.requests_done = lambda *arguments: 1 / 0  # type: ignore[method-assign, assignment]
    world.observer.batch_done = lambda *arguments: 1 / 0  # type: ignore[method-assign, assignment]
    callers = [world.ask((1, 1)), world.ask((2, 2), timeout=5 * MILLISECOND)]
    world.clock.advance(10 * MILLISECOND)
    for call in world.backend.calls:
        call.echo()
    world.clock.settle()
    assert all(caller.answered for caller in callers)
    assert world.service.in_flight == 0


def test_a_call_that_may_have_been_executed_is_not_retried(world: World) -> None:
    caller = world.ask((1, 1))
    world.clock.settle()
    world.backend.calls[0].answer(BackendUnreachable("lost", unprocessed=False))
    world.clock.settle()
    assert caller.error is not None
    assert len(world.backend.calls) == 1


def test_a_dead_copy_is_reported_and_its_batch_waits_for_the_reload(world: World) -> None:
    callers = [world.ask((1, 1)), world.ask((2, 2))]
    world.clock.settle()
    world.replica.ready_versions.clear()
    world.backend.calls[0].answer(ModelDied())
    world.clock.settle()
    assert world.died == [world.version]
    assert not any(caller.answered for caller in callers)
    world.replica.ready_versions.add(world.version)
    world.scheduler.wake()
    world.clock.settle()
    for call in world.backend.calls[1:]:
        call.echo()
    assert [caller.values for caller in callers] == [[1, 1], [2, 2]]


def test_staging_time_is_not_learned_as_execution_time(world: World) -> None:
    for i in range(2):
        world.ask((i, i))
        world.clock.settle()
    for call in list(world.backend.calls):
        world.clock.advance(10 * MILLISECOND)
        call.echo()
    assert world.scheduler.profile.mean(1) == pytest.approx(10 * MILLISECOND, rel=0.01)


def test_a_caller_whose_answer_cannot_be_delivered_harms_nobody(world: World) -> None:
    broken, fine = world.ask((1, 1)), world.ask((2, 2))
    broken.succeed = lambda response: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    world.clock.settle()
    world.backend.calls[0].echo()
    assert fine.values == [2, 2]
    assert broken.error is not None, "it is told that something went wrong"
    assert broken.error.code is ErrorCode.INTERNAL
    after = world.ask((3, 3))
    world.clock.settle()
    world.backend.calls[1].echo()
    assert after.values == [3, 3]


def test_a_backend_that_raises_fails_the_batch_and_not_the_scheduler(world: World) -> None:
    world.backend.refusal = RuntimeError("boom")
    caller = world.ask((1, 1))
    world.clock.settle()
    assert caller.error is not None
    assert caller.error.code is ErrorCode.INTERNAL
    world.backend.refusal = None
    again = world.ask((2, 2))
    world.clock.settle()
    world.backend.calls[0].echo()
    assert again.values == [2, 2]


def test_an_unavailable_backend_holds_requests_until_their_deadline(world: World) -> None:
    world.backend.available = False
    impatient, patient = world.ask((1, 1), timeout=20 * MILLISECOND), world.ask((2, 2), timeout=SECOND)
    world.clock.advance(30 * MILLISECOND)
    assert impatient.error is not None
    world.backend.available = True
    world.scheduler.wake()
    world.clock.settle()
    world.backend.calls[0].echo()
    assert patient.values == [2, 2]
