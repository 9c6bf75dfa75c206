"""What can go wrong between the runner and whoever asks it for something."""

from __future__ import annotations


class Refused(ValueError):
    """What was asked for cannot be done with the job as it stands; the message says why."""


class KeyConflict(Refused):
    """The submission key belongs to a different job."""


class UnknownJob(LookupError):
    """There is no such job."""
