"""What a job reports while it runs: one JSON object a line, appended whole.

Decides the format. A report that cannot be written (full disk) is dropped: reporting never ends a training.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

from jobs.clock import wall


class Metrics:
    """Owns the metrics file of a job, across its attempts."""

    def __init__(self, path: str | Path | None) -> None:
        """With None nothing is kept."""
        self._handle = -1
        if path is None:
            return
        with contextlib.suppress(OSError):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                os.write(self._handle, b"\n")  # an attempt was killed in the middle of a line

    def report(self, step: int | None = None, total: int | None = None, **values: float | int | str) -> None:
        """Appends a row: the step of `total` that is done (for the progress bar), and named values."""
        row: dict[str, object] = {"at": round(wall(), 3)}
        row |= {name: value for name, value in (("step", step), ("total", total)) if value is not None}
        row |= {name: _plain(value) for name, value in values.items()}
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.write(self._handle, json.dumps(row).encode() + b"\n")

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _plain(value: object) -> object:
    """Returns what JSON can carry: numpy's numbers as numbers, what is not finite by its name."""
    if isinstance(value, str | bool | int):
        return value
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else str(number)
