"""A progress line on standard error: drawn over itself on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import os
import sys

_WIDTH = 24


class Progress:
    """Hears (what, done, total); total 0 means that it is not known."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._draws = not quiet and sys.stderr.isatty()
        self._shown = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._quiet:
            return
        if not self._draws:
            if what != self._shown:
                print(f"sluice quantize: {what}", file=sys.stderr, flush=True)
                self._shown = what
            return
        share = min(done / total, 1.0) if total else 0.0
        filled = int(share * _WIDTH)
        count = f" {done}/{total}" if total else f" {done}" if done else ""
        text = f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {what}{count}"
        text = text[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
        if text != self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._shown = text

    def clear(self) -> None:
        if self._draws and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = ""
