"""What one check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.Enum):
    """OK; WARNING: it works, with a drawback; FAILED: something will not work."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The subject, how it stands, what was found, and what to do (empty when nothing need be done)."""

    subject: str
    status: Status
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """Returns a finding that is as it should be."""
    return Finding(subject, Status.OK, found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Returns a finding that works with a drawback."""
    return Finding(subject, Status.WARNING, found, advice)


def failed(subject: str, found: str, advice: str) -> Finding:
    """Returns a finding that keeps something from working."""
    return Finding(subject, Status.FAILED, found, advice)
