"""Writes lines to a file or standard output without ever holding up the event loop.

A disk that stalls, or a pipe that nobody reads, blocks the one thread here and nothing else; what does not fit into
the bounded hand-over meanwhile is dropped and counted. A file is rotated by size: `name`, `name.1`, `name.2` …
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger("sluice.access_log")

_MOST_CHUNKS = 64
_CLOSE_TIMEOUT_S = 2.0


class LogWriter:
    """Owns the file and the thread that writes it."""

    def __init__(self, target: str, max_bytes: int, files: int) -> None:
        """`target` is a path, or "-" for standard output; `files` rotated ones are kept.

        Raises:
            OSError: the file cannot be opened for appending.
        """
        self._path = None if target == "-" else Path(target)
        self._max_bytes = max_bytes
        self._files = files
        self._queue: queue.Queue[bytes | None] = queue.Queue(_MOST_CHUNKS)
        self._file: BinaryIO | None = None
        self._size = 0
        self._failed = False
        self.dropped = 0
        """Chunks that were not written."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open(self._path)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, chunk: bytes) -> bool:
        """Hands over whole lines; returns False if they had to be dropped. Never blocks."""
        try:
            self._queue.put_nowait(chunk)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Writes what was handed over, within two seconds."""
        try:
            self._queue.put(None, timeout=_CLOSE_TIMEOUT_S)
        except queue.Full:
            return
        self._thread.join(_CLOSE_TIMEOUT_S)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            try:
                self._write(chunk)
                self._failed = False
            except (OSError, ValueError) as error:
                self.dropped += 1
                self._drop_file()
                if not self._failed:
                    _log.error("the access log cannot be written: %s", error)
                self._failed = True
        self._drop_file()

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _write(self, chunk: bytes) -> None:
        if self._path is None:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        file = self._file or self._open(self._path)
        if self._size and self._size + len(chunk) > self._max_bytes:
            self._drop_file()
            self._rotate(self._path)
            file = self._open(self._path)
        file.write(chunk)
        file.flush()  # what was handed over is in the file even if the process is killed
        self._size += len(chunk)

    def _open(self, path: Path) -> BinaryIO:
        self._file = open(path, "ab")  # noqa: SIM115 (closed by rotation, by a failure or at the end)
        self._size = os.fstat(self._file.fileno()).st_size
        return self._file

    def _rotate(self, path: Path) -> None:
        if self._files == 0:
            path.unlink(missing_ok=True)
            return
        names = [path, *(path.with_name(f"{path.name}.{n}") for n in range(1, self._files + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
