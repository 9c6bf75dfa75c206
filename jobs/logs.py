"""The log of one attempt: bounded on disk, addressed by offset in what the job wrote.

Decides what is kept: the output is cut into segments of an eighth of the bound; the first segment and the newest are
kept, what is between is deleted. There are no lines here, so a line of any length is nothing special. A disk that is
full loses output (counted, and said in the log when there is room again) and never blocks or ends the job.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path  # the keeper starts quicker without it

SEGMENTS = 8
_PREFIX = "log."
_LENGTH_FILE = "log-segment-bytes"


class Piece(NamedTuple):
    """A part of a log: `start` is where it begins in the whole output, later than asked if that is gone."""

    start: int
    data: bytes


class LogWriter:
    """Owns the segments of one log while the job writes."""

    def __init__(self, folder: str | Path, limit_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = max(limit_bytes // SEGMENTS, 4096)
        self._handle = -1
        self._lost_unsaid = 0
        self._told_length = False
        self.position = 0
        self.lost = 0
        self.tail = b""

    def write(self, data: bytes) -> None:
        """Appends; never raises for want of space."""
        self.tail = (self.tail + data[-4096:])[-4096:]
        if self._lost_unsaid:
            note = f"\n[sluice: {self._lost_unsaid} bytes of output lost, the disk was full]\n".encode()
            if not self._append(note):
                self._lose(len(data))
                return
            self._lost_unsaid = 0
        view = memoryview(data)
        while view:
            room = self._segment_bytes - self.position % self._segment_bytes
            if not self._append(view[:room]):
                self._lose(len(view))
                return
            view = view[room:]

    def close(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = -1

    def _lose(self, count: int) -> None:
        self.lost += count
        self._lost_unsaid += count

    def _append(self, data: bytes | memoryview) -> bool:
        view = memoryview(data)
        try:
            if not self._told_length:
                with open(os.path.join(self._folder, _LENGTH_FILE), "w", encoding="ascii") as file:
                    file.write(str(self._segment_bytes))
                self._told_length = True
            while view:
                if self._handle < 0:
                    self._open(self.position // self._segment_bytes)
                done = os.write(self._handle, view[: self._segment_bytes - self.position % self._segment_bytes])
                self.position += done
                view = view[done:]
                if self.position % self._segment_bytes == 0:
                    self.close()
        except OSError:
            return False
        return True

    def _open(self, number: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._handle = os.open(_segment(self._folder, number), flags, 0o600)
        if (old := number - SEGMENTS + 1) > 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_segment(self._folder, old))


def _segment(folder: str | Path, number: int) -> str:
    return os.path.join(folder, f"{_PREFIX}{number:09d}")


def read(folder: str | Path, offset: int, most: int) -> Piece:
    """Returns up to `most` bytes of the log in `folder` from `offset` on; no data if there is nothing yet."""
    try:
        with open(os.path.join(folder, _LENGTH_FILE), encoding="ascii") as length:
            segment_bytes = int(length.read())
        numbers = sorted(int(name[len(_PREFIX) :]) for name in os.listdir(folder) if name.startswith(_PREFIX))
    except (OSError, ValueError):
        return Piece(offset, b"")
    for number in numbers:
        begin = number * segment_bytes
        if offset >= begin + segment_bytes:
            continue
        start = max(offset, begin)
        try:
            with open(_segment(folder, number), "rb") as file:
                file.seek(start - begin)
                data = file.read(most)
        except FileNotFoundError:
            continue  # deleted since it was listed: the next one is where the log goes on
        if data:
            return Piece(start, data)
    return Piece(offset, b"")


def size(folder: str | Path) -> int:
    """Returns the bytes of the log on disk."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
    return total
