"""Why an attempt ended, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.states import JobState, Reason, next_of, reason_of
from tests.jobs.world import job_of


def record(**given: Any) -> dict[str, Any]:
    plain = {"exit_code": None, "signal": None, "why": None, "detail": "", "kernel_oom": False, "said_oom": False}
    return plain | given


@pytest.mark.parametrize(
    ("given", "missing", "reason"),
    [
        (record(exit_code=0), [], Reason.SUCCESS),
        (record(exit_code=0), ["m"], Reason.OUTPUTS_MISSING),
        (record(exit_code=3), ["m"], Reason.ERROR),
        (record(exit_code=75), [], Reason.PREEMPTED),
        (record(exit_code=1, said_oom=True), [], Reason.OUT_OF_MEMORY),
        (record(signal=9, kernel_oom=True), [], Reason.OUT_OF_MEMORY),
        (record(signal=9), [], Reason.LOST),
        (record(signal=11), [], Reason.ERROR),
        (record(signal=9, why="time_limit"), [], Reason.TIME_LIMIT),
        (record(signal=9, why="out_of_memory"), [], Reason.OUT_OF_MEMORY),
        (record(exit_code=0, why="cancel"), [], Reason.CANCELLED),
        (record(exit_code=75, why="preempt"), [], Reason.PREEMPTED),
        (record(signal=15, why="preempt"), [], Reason.PREEMPTED),
        (record(exit_code=0, why="preempt"), [], Reason.SUCCESS),
        (record(exit_code=0, why="preempt"), ["m"], Reason.PREEMPTED),
        (record(signal=9, why="evict"), [], Reason.PREEMPTED),
        (None, [], Reason.LOST),
    ],
)
def test_reasons(given: dict[str, Any] | None, missing: list[str], reason: Reason) -> None:
    assert reason_of(given, missing).reason is reason


def test_retries_are_counted_and_wait_longer_each_time() -> None:
    job = job_of("x", retries=3, retry_delay_s=100)
    delays = [next_of(job, Reason.ERROR, n, 0, cancel_asked=False) for n in (1, 2, 3, 4)]
    assert [(step.state, step.delay_s) for step in delays] == [
        (JobState.QUEUED, 100), (JobState.QUEUED, 200), (JobState.QUEUED, 300), (JobState.FAILED, 0),
    ]  # fmt: skip
    assert next_of(job, Reason.TIME_LIMIT, 1, 0, cancel_asked=False).state is JobState.FAILED


def test_interruptions_cost_no_retries_and_are_bounded() -> None:
    job = job_of("x", interruptions=2)
    states = [next_of(job, Reason.LOST, 0, n, cancel_asked=False).state for n in (1, 2, 3)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.SUCCESS])
def test_a_cancelled_job_never_comes_back(reason: Reason) -> None:
    job = job_of("x", retries=9, retry_on=["error", "out_of_memory", "time_limit", "outputs_missing"])
    assert next_of(job, reason, 1, 1, cancel_asked=True).state is JobState.CANCELLED
