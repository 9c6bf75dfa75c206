"""The process log: standard library logging, one line an event on standard error.

Decides the form only: text for a person at a terminal, JSON lines for everything else. What is logged per request is
the access log's business.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Literal, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({})))
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31;1m"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, error, and whatever `extra` brought along."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        fields.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        return json.dumps(fields, default=str)


class TextFormatter(logging.Formatter):
    """Time of day, level, logger, message; coloured by level on a terminal."""

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("sluice.")
        line = f"{_time(record).astimezone():%H:%M:%S} {record.levelname.lower():<7} {name}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        colour = _COLOURS.get(record.levelno, "") if self._colour else ""
        return f"{colour}{line}\x1b[0m" if colour else line


def set_up(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["auto", "text", "json"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Makes the root logger write to `stream` (default: standard error), replacing what it did before."""
    target = stream if stream is not None else sys.stderr
    terminal = target.isatty()
    handler = logging.StreamHandler(target)
    text = form == "text" or (form == "auto" and terminal)
    handler.setFormatter(TextFormatter(colour=terminal) if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries speak up when something is wrong, not to say what they do.
    for chatty in ("asyncio", "aiohttp", "grpc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC)
