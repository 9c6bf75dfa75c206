"""The progress bar of a job in the foreground, made from the metrics that it reports. Pure but for the writing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, TextIO

_BAR = 24


def line(row: Mapping[str, Any], elapsed_s: float, width: int) -> str:
    """Returns one line of at most `width` characters for the newest row: bar, step, what is left, the other values."""
    step, total = row.get("step"), row.get("total")
    parts = []
    if isinstance(step, int) and isinstance(total, int) and total > 0:
        part = min(max(step / total, 0.0), 1.0)
        full = int(part * _BAR)
        parts.append(f"[{'#' * full}{'.' * (_BAR - full)}] {part:4.0%}  {step}/{total}")
    elif isinstance(step, int):
        parts.append(f"step {step}")
    parts.append(_span(elapsed_s))
    parts += [
        f"{name} {value:.4g}"
        for name, value in row.items()
        if name not in ("step", "total", "at") and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return "  ".join(parts)[: max(width - 1, 1)]


class Bar:
    """Owns the last line of a terminal; writes nothing if it is none."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False
        self._active = stream.isatty()

    def show(self, row: Mapping[str, Any], elapsed_s: float) -> None:
        if self._active:
            self._stream.write("\r\x1b[K" + line(row, elapsed_s, shutil.get_terminal_size().columns))
            self._stream.flush()
            self._shown = True

    def clear(self) -> None:
        """Frees the line, for other output."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def _span(seconds: float) -> str:
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
