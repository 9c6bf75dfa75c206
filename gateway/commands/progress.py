"""A progress bar on standard error, for people only: nothing is drawn where nobody looks (no terminal)."""

from __future__ import annotations

import os
import sys

_WIDTH = 24


class Bar:
    """Draws (what, done, total in bytes) on one line; `clear` removes it."""

    def __init__(self) -> None:
        self._draws = sys.stderr.isatty()
        self._shown = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._draws:
            return
        share = done / total if total else 1.0
        filled = int(share * _WIDTH)
        plain = "".join(c if c.isprintable() else " " for c in what)
        text = f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {share * 100:3.0f} % of {total / 1e6:.1f} MB  {plain}"
        text = text[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
        if text != self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._shown = text

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = ""
