"""Forgets jobs that have ended, with their logs, outputs and checkpoints. What waits or runs is never touched."""

from __future__ import annotations

from jobs import clock
from jobs.state_folder import StateFolder
from jobs.states import JobState
from jobs.store import Store


def collect(store: Store, state: StateFolder, older_than_s: float) -> tuple[int, int]:
    """Removes jobs that ended longer ago than that; returns how many, and the bytes freed."""
    count = freed = 0
    before = clock.wall() - older_than_s
    for record in store.jobs((JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)):
        if record.ended_at is not None and record.ended_at <= before:
            store.remove(record.id)
            freed += state.remove(record.id)
            count += 1
    return count, freed
