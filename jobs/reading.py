"""What is known of jobs, as documents: for the REST API, for `--json`, for tables. Reads the state folder only.

Works beside a running runner and without one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs import files, lineage
from jobs.job_loading import to_document
from jobs.state_folder import StateFolder
from jobs.store import Attempt, JobRecord, Store

MAX_METRICS_BYTES = 64 << 20


def brief(record: JobRecord) -> dict[str, Any]:
    """Returns one line's worth of a job."""
    return {
        "id": record.id,
        "name": record.job.name,
        "owner": record.owner,
        "state": str(record.state),
        "reason": record.reason,
        "detail": record.detail,
        "cancel_asked": record.cancel_asked,
        "priority": record.job.priority,
        "attempts": record.attempts,
        "submitted_at": record.submitted_at,
        "ended_at": record.ended_at,
    }


def full(store: Store, state: StateFolder, number: int) -> dict[str, Any]:
    """Returns everything about a job. Raises UnknownJob."""
    record = store.known(number)
    return {
        **brief(record),
        "key": record.key,
        "code": record.code,
        "failures": record.failures,
        "interruptions": record.interruptions,
        "not_before": record.not_before,
        "output_folder": str(state.outputs(number)),
        "checkpoint_folder": str(state.checkpoints(number, record.job)),
        "job": to_document(record.job),
        "lineage": files.read_json(lineage.path(state, number)),
        "runs": [_attempt(attempt) for attempt in store.attempts(number)],
        "events": [{"at": at, "what": what} for at, what in store.events(number)],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "gpus": list(attempt.gpus),
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "reason": attempt.reason,
        "detail": attempt.detail,
        "record": None if attempt.record is None else dict(attempt.record),
    }


def metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the rows that the job has reported, by rising step; of a step that was redone only the last.

    A last line that is still being written is left out. Rows without a step come first, in their order.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_METRICS_BYTES)
    except OSError:
        return []
    loose: list[dict[str, Any]] = []
    by_step: dict[int, dict[str, Any]] = {}
    for line in content.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut off by a kill; the line after it is whole again
        if isinstance(row, dict):
            step = row.get("step")
            if isinstance(step, int):
                by_step[step] = {**by_step.get(step, {}), **row}
            else:
                loose.append(row)
    return loose + [by_step[step] for step in sorted(by_step)]
