"""The runner's folder: where everything of it and of its jobs lies, and who may write there.

    jobs.sqlite  lock  token  runner.json  reserve
    jobs/<id>/attempts/<n>/…   jobs/<id>/outputs   jobs/<id>/checkpoints   jobs/<id>/metrics.ndjson

Decides the layout. Invariants: one runner at a time (the lock); only its user can read it (it holds the token that
lets commands be run).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from jobs import files
from jobs.job import Job

_RESERVE, _RESERVE_BYTES = "reserve", 2 << 20
VARIABLE = "SLUICE_JOBS_STATE"


class StateBusy(Exception):
    """Another runner uses the folder."""


def default_root(environ: Mapping[str, str]) -> Path:
    """Returns the state folder when none is named: $SLUICE_JOBS_STATE, else below the user's state folder."""
    if named := environ.get(VARIABLE):
        return Path(named)
    base = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "sluice" / "jobs"


class StateFolder:
    """Paths below one state folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock = -1

    @property
    def endpoint_file(self) -> Path:
        """Says where the running runner listens."""
        return self.root / "runner.json"

    def create(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "jobs").mkdir(mode=0o700, exist_ok=True)

    def lock(self) -> None:
        """Takes the folder until `unlock` or the end of the process. Raises StateBusy."""
        self.create()
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise StateBusy(f"another runner uses {self.root}") from None
        self._lock = handle

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def token(self) -> str:
        """Returns the secret that whoever talks to the runner must show; made when there is none."""
        path = self.root / "token"
        try:
            return path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            files.replace(path, secrets.token_urlsafe(32).encode())
            return path.read_text(encoding="ascii").strip()

    def keep_reserve(self) -> None:
        """Sets some space aside, so that the end of a job that filled the disk can still be recorded."""
        path = self.root / _RESERVE
        if path.exists():
            return
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError:
            path.unlink(missing_ok=True)

    def use_reserve(self) -> bool:
        """Gives the space set aside back to the disk; returns whether there was any."""
        try:
            (self.root / _RESERVE).unlink()
        except OSError:
            return False
        return True

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    # ------------------------------------------------------------------ one job

    def of_job(self, number: int) -> Path:
        return self.root / "jobs" / str(number)

    def outputs(self, number: int) -> Path:
        return self.of_job(number) / "outputs"

    def metrics(self, number: int) -> Path:
        return self.of_job(number) / "metrics.ndjson"

    def checkpoints(self, number: int, job: Job) -> Path:
        if job.checkpoint.folder:
            return Path(job.folder) / os.path.expanduser(job.checkpoint.folder)
        return self.of_job(number) / "checkpoints"

    def attempt(self, number: int, attempt: int) -> Path:
        return self.of_job(number) / "attempts" / str(attempt)

    def remove(self, number: int) -> int:
        """Deletes what is kept of a job (a checkpoint folder of the user's own stays); returns the bytes freed."""
        folder = self.of_job(number)
        freed = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
        shutil.rmtree(folder, ignore_errors=True)
        return freed
