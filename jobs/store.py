"""The runner's state in SQLite: jobs, attempts, use by owner, and what happened.

Decides nothing; every method is one transaction. Invariants: an attempt is on record before its keeper is started; a
job's state and its attempt's end change together; a submission key names one job for ever; ids are never used twice.
One writer (the runner, which holds the state folder's lock), any number of readers.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import KeyConflict, UnknownJob
from jobs.job import Job
from jobs.job_loading import from_document, to_document
from jobs.states import Ended, JobState, Next

DATABASE = "jobs.sqlite"
_VERSION = 1
_HALF_LIFE_S = 24 * 3600.0
_MOST_EVENTS = 1000
_SCHEMA = """
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, owner TEXT NOT NULL, priority INTEGER NOT NULL,
  key TEXT UNIQUE, submitted_as TEXT NOT NULL, spec TEXT NOT NULL, code TEXT, state TEXT NOT NULL, reason TEXT,
  detail TEXT NOT NULL DEFAULT '', cancel_asked INTEGER NOT NULL DEFAULT 0, submitted_at REAL NOT NULL,
  not_before REAL NOT NULL, ended_at REAL, failures INTEGER NOT NULL DEFAULT 0,
  interruptions INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE attempts (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, number INTEGER NOT NULL, token TEXT NOT NULL,
  gpus TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL, reason TEXT, detail TEXT, record TEXT,
  PRIMARY KEY (job, number)) STRICT;
CREATE TABLE use (owner TEXT PRIMARY KEY, amount REAL NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  what TEXT NOT NULL) STRICT;
CREATE INDEX events_by_job ON events (job);
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a job. `record` is the keeper's exit record."""

    job: int
    number: int
    token: str
    gpus: tuple[int, ...]
    started_at: float
    ended_at: float | None
    reason: str | None
    detail: str | None
    record: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A submitted job and how it stands."""

    id: int
    owner: str
    key: str | None
    job: Job
    code: str | None
    state: JobState
    reason: str | None
    detail: str
    cancel_asked: bool
    submitted_at: float
    not_before: float
    ended_at: float | None
    failures: int
    interruptions: int
    attempts: int


_JOB_COLUMNS = (
    "id, owner, key, spec, code, state, reason, detail, cancel_asked, submitted_at, not_before, ended_at, failures, "
    "interruptions, (SELECT count(*) FROM attempts WHERE job = jobs.id)"
)


class Store:
    """Owns the connection. `read_only` opens what a runner may be writing at the same time."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        path = folder / DATABASE
        if read_only:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)
        else:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            self._db.close()
            raise ValueError(f"{path} has version {found}, this program knows {_VERSION}")
        if found == 0 and not read_only:
            self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ------------------------------------------------------------------ jobs

    def submit(
        self, job: Job, submitted_as: str, owner: str, key: str | None, code: str | None, at: float
    ) -> tuple[JobRecord, bool]:
        """Returns the job's record and whether it is new; the same key with the same job is the same submission.

        Raises:
            KeyConflict: the key belongs to a job that says something else.
        """
        with self._transaction() as db:
            if key is not None:
                row = db.execute("SELECT id, submitted_as FROM jobs WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    if row[1] != submitted_as:
                        raise KeyConflict(f"key '{key}' belongs to job {row[0]}, which is a different job")
                    return self.known(row[0]), False
            done = db.execute(
                "INSERT INTO jobs (name, owner, priority, key, submitted_as, spec, code, state, submitted_at,"
                " not_before) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (job.name, owner, job.priority, key, submitted_as, json.dumps(to_document(job)), code,
                 JobState.QUEUED, at, at),
            )  # fmt: skip
            assert done.lastrowid is not None
            self._note(done.lastrowid, at, "submitted")
            return self.known(done.lastrowid), True

    def job(self, number: int) -> JobRecord | None:
        row = self._db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = ?", (number,)).fetchone()
        return None if row is None else _job_record(row)

    def known(self, number: int) -> JobRecord:
        """Returns the job. Raises UnknownJob."""
        found = self.job(number)
        if found is None:
            raise UnknownJob(f"there is no job {number}")
        return found

    def jobs(self, states: tuple[str, ...] = (), limit: int = 1_000_000) -> list[JobRecord]:
        """Returns jobs, newest first."""
        where = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        rows = self._db.execute(
            f"SELECT {_JOB_COLUMNS} FROM jobs {where} ORDER BY id DESC LIMIT ?", (*states, limit)
        ).fetchall()
        return [_job_record(row) for row in rows]

    def ask_cancel(self, number: int, at: float) -> JobRecord:
        """Marks the job; a queued one is cancelled with that."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET cancel_asked = 1 WHERE id = ? AND ended_at IS NULL", (number,))
            done = db.execute(
                "UPDATE jobs SET state = ?, reason = 'cancelled', detail = '', ended_at = ? WHERE id = ? AND state = ?",
                (JobState.CANCELLED, at, number, JobState.QUEUED),
            )
            self._note(number, at, "cancelled while queued" if done.rowcount else "cancel asked")
            return self.known(number)

    def resume(self, number: int, at: float) -> JobRecord:
        """Queues a job that has ended again, with its checkpoints and with all its retries."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, reason = NULL, detail = '', cancel_asked = 0, not_before = ?,"
                " ended_at = NULL, failures = 0, interruptions = 0 WHERE id = ? AND ended_at IS NOT NULL",
                (JobState.QUEUED, at, number),
            )
            self._note(number, at, "resumed")
            return self.known(number)

    def remove(self, number: int) -> None:
        """Forgets a job that has ended; its id is not used again."""
        with self._transaction() as db:
            db.execute("DELETE FROM jobs WHERE id = ? AND ended_at IS NOT NULL", (number,))

    # ------------------------------------------------------------------ attempts

    def begin_attempt(self, number: int, token: str, gpus: tuple[int, ...], at: float) -> Attempt:
        with self._transaction() as db:
            db.execute("UPDATE jobs SET state = ? WHERE id = ?", (JobState.RUNNING, number))
            last = db.execute("SELECT coalesce(max(number), 0) FROM attempts WHERE job = ?", (number,)).fetchone()[0]
            db.execute(
                "INSERT INTO attempts (job, number, token, gpus, started_at) VALUES (?, ?, ?, ?, ?)",
                (number, last + 1, token, json.dumps(gpus), at),
            )
            self._note(number, at, f"attempt {last + 1} started")
            return Attempt(number, last + 1, token, gpus, at, None, None, None, None)

    def end_attempt(
        self, attempt: Attempt, ended: Ended, record: Mapping[str, Any] | None, following: Next,
        failures: int, interruptions: int, use: tuple[str, float], at: float,
    ) -> JobRecord:  # fmt: skip
        """Records the attempt's end, the job's next state, and what its owner has used (share-seconds), at once."""
        owner, amount = use
        with self._transaction() as db:
            db.execute(
                "UPDATE attempts SET ended_at = ?, reason = ?, detail = ?, record = ? WHERE job = ? AND number = ?",
                (at, ended.reason, ended.detail, None if record is None else json.dumps(record),
                 attempt.job, attempt.number),
            )  # fmt: skip
            db.execute(
                "UPDATE jobs SET state = ?, reason = ?, detail = ?, not_before = ?, ended_at = ?, failures = ?,"
                " interruptions = ? WHERE id = ?",
                (following.state, ended.reason, ended.detail, at + following.delay_s,
                 at if following.state.final else None, failures, interruptions, attempt.job),
            )  # fmt: skip
            total = self._decayed(at).get(owner, 0.0) + amount
            db.execute(
                "INSERT INTO use VALUES (?, ?, ?) ON CONFLICT (owner) DO UPDATE SET amount = ?, at = ?",
                (owner, total, at, total, at),
            )
            self._note(attempt.job, at, f"attempt {attempt.number} ended: {ended.reason}; {following.state}")
            return self.known(attempt.job)

    def attempts(self, number: int) -> list[Attempt]:
        """Returns the job's attempts, oldest first."""
        rows = self._db.execute(
            "SELECT job, number, token, gpus, started_at, ended_at, reason, detail, record FROM attempts"
            " WHERE job = ? ORDER BY number",
            (number,),
        ).fetchall()
        return [_attempt(row) for row in rows]

    # ------------------------------------------------------------------ use and history

    def usage(self, at: float) -> dict[str, float]:
        """Returns what each owner has used lately, in share-seconds; it halves every day."""
        return self._decayed(at)

    def _decayed(self, at: float) -> dict[str, float]:
        rows = self._db.execute("SELECT owner, amount, at FROM use").fetchall()
        return {owner: amount * 0.5 ** (max(at - since, 0.0) / _HALF_LIFE_S) for owner, amount, since in rows}

    def events(self, number: int) -> list[tuple[float, str]]:
        rows = self._db.execute("SELECT at, what FROM events WHERE job = ? ORDER BY id", (number,)).fetchall()
        return [(row[0], row[1]) for row in rows]

    def _note(self, number: int, at: float, what: str) -> None:
        self._db.execute("INSERT INTO events (at, job, what) VALUES (?, ?, ?)", (at, number, what))
        self._db.execute(
            "DELETE FROM events WHERE job = ? AND id <= (SELECT id FROM events WHERE job = ? ORDER BY id DESC"
            " LIMIT 1 OFFSET ?)",
            (number, number, _MOST_EVENTS),
        )


def _job_record(row: tuple[Any, ...]) -> JobRecord:
    number, owner, key, spec, code, state, reason, detail, cancel_asked, *rest = row
    job = from_document(json.loads(spec))
    return JobRecord(number, owner, key, job, code, JobState(state), reason, detail, bool(cancel_asked), *rest)


def _attempt(row: tuple[Any, ...]) -> Attempt:
    job, number, token, gpus, started_at, ended_at, reason, detail, record = row
    known = None if record is None else json.loads(record)
    return Attempt(job, number, token, tuple(json.loads(gpus)), started_at, ended_at, reason, detail, known)
