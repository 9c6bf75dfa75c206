"""What becomes of a job when one of its attempts has ended. Pure.

Decides the reason from the exit record, and from the reason what follows: done, failed, or queued again and when.
Invariants: a job that was cancelled is never queued again; the number of attempts is bounded by `retries` and
`interruptions`; success needs the promised outputs.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs import contract
from jobs.job import Job

_LONGEST_DELAY_S = 300.0


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Reason(StrEnum):
    """Why an attempt ended."""

    SUCCESS = "success"
    ERROR = "error"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    LOST = "lost"
    OUTPUTS_MISSING = "outputs_missing"
    INPUT_CHANGED = "input_changed"
    DATA_REFUSED = "data_refused"
    BUDGET_EXCEEDED = "budget_exceeded"


@dataclass(frozen=True, slots=True)
class Ended:
    """Why an attempt ended, for programs and for people."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Next:
    """The job's next state; `delay_s` is how long a queued one waits at least."""

    state: JobState
    delay_s: float = 0.0


def reason_of(
    record: Mapping[str, Any] | None, missing: Sequence[str], refused: Mapping[str, Any] | None = None
) -> Ended:
    """Returns why the attempt with this exit record ended; `missing` are the promised outputs that are not there.

    `refused` says why the data was refused before the program started, if it was.

    No record means that the keeper is gone and nobody knows: lost.
    """
    if record is None:
        return Ended(Reason.LOST, "its keeper is gone and left no record")
    why, code, number, detail = record["why"], record["exit_code"], record["signal"], record["detail"]
    if why == contract.CANCEL:
        return Ended(Reason.CANCELLED, detail)
    if why == contract.TIME_LIMIT:
        return Ended(Reason.TIME_LIMIT, detail)
    if why == contract.OUT_OF_MEMORY:
        return Ended(Reason.OUT_OF_MEMORY, detail)
    if why == contract.TOO_MANY_PROCESSES:
        return Ended(Reason.ERROR, detail)
    if why is not None and (code != 0 or missing):
        return Ended(Reason.PREEMPTED, detail)
    if refused is not None:
        return Ended(Reason(refused["reason"]), str(refused.get("detail", "")))
    if code == 0:
        if missing:
            return Ended(Reason.OUTPUTS_MISSING, f"ended with 0 but did not write {', '.join(missing)}")
        return Ended(Reason.SUCCESS)
    if code == contract.EXIT_REQUEUE:
        return Ended(Reason.PREEMPTED, "asked to be queued again")
    if record["kernel_oom"]:
        return Ended(Reason.OUT_OF_MEMORY, "killed by the kernel, the machine was out of memory")
    if record["said_oom"]:
        return Ended(Reason.OUT_OF_MEMORY, "its output ends with memory being refused")
    if number == signal.SIGKILL:
        return Ended(Reason.LOST, "killed from outside (signal 9)")
    if number is not None:
        return Ended(Reason.ERROR, f"ended by signal {number} ({_signal_name(number)})")
    return Ended(Reason.ERROR, detail or f"ended with exit code {code}")


def next_of(job: Job, reason: Reason, failures: int, interruptions: int, *, cancel_asked: bool) -> Next:
    """Returns what follows. `failures` and `interruptions` count this attempt and those before it since (re)start."""
    if reason is Reason.SUCCESS:
        return Next(JobState.SUCCEEDED)
    if reason is Reason.CANCELLED or cancel_asked:
        return Next(JobState.CANCELLED)
    if reason in (Reason.PREEMPTED, Reason.LOST):
        # The pause keeps a program that is lost at once, or always asks for another start, from spinning.
        again = interruptions <= job.interruptions
        return Next(JobState.QUEUED, job.retry_delay_s) if again else Next(JobState.FAILED)
    if reason in job.retry_on and failures <= job.retries:
        return Next(JobState.QUEUED, min(job.retry_delay_s * 2.0 ** (failures - 1), _LONGEST_DELAY_S))
    return Next(JobState.FAILED)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
