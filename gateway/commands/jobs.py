"""`sluice jobs …`: hands over to the job runner, which is a package of its own beside the gateway."""

from __future__ import annotations

import argparse


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code; see `jobs.cli`."""
    # Imported late: no other command needs the runner.
    from jobs.commands import run as run_jobs

    return run_jobs(parsed)
