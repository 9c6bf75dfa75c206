"""What a runner has to give, and jobs as its queue sees them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.job import Job
from jobs.queueing import Amount, Running, Waiting
from jobs.store import JobRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """What there is to give, and how patient the queue is."""

    capacity: Amount
    gpus: tuple[int, ...] = ()
    reserve_after_s: float = 600.0
    min_free_bytes: int = 64 << 20


def amount_of(job: Job) -> Amount:
    """Returns what one attempt occupies."""
    asked = job.resources
    return Amount(asked.cpus, asked.gpus, asked.memory_mib)


def waiting(record: JobRecord, at: float) -> Waiting:
    """Returns a queued job as the queue sees it at the instant `at`."""
    since = max(record.submitted_at, record.not_before)
    return Waiting(record.id, record.owner, record.job.priority, amount_of(record.job), record.id, at - since)


def running(record: JobRecord, *, stoppable: bool, giving_way: bool) -> Running:
    """Returns a running job as the queue sees it."""
    job = record.job
    preemptible = job.preemptible and stoppable
    return Running(record.id, record.owner, job.priority, amount_of(job), record.id, preemptible, giving_way)


def too_large(job: Job, settings: RunnerSettings) -> list[str]:
    """Returns what the job asks for that there is not, however long it waits."""
    whole = settings.capacity
    pairs = (("cpus", whole.cpus), ("gpus", whole.gpus), ("memory_mib", whole.memory_mib))
    asked = job.resources
    return [
        f"resources.{name}: {getattr(asked, name)} asked for, the runner has {there}"
        for name, there in pairs
        if getattr(asked, name) > there
    ]
