"""`sluice doctor`: checks what the gateway needs, and says what to do about what is missing.

Every check looks and changes nothing (the links that Triton's environment check lays out go to a folder of its own
that is removed). A check that itself breaks is a failed check, never an end of the examination.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.config import Config
from gateway.doctor.finding import Finding, Status
from gateway.doctor.machine import machine
from gateway.doctor.models import models
from gateway.doctor.packages import packages
from gateway.doctor.ports import ports
from gateway.doctor.running import running
from gateway.doctor.triton import triton

__all__ = ["Finding", "Status", "examine", "healthy"]

Check = Callable[[Config], Iterator[Finding]]
_CHECKS: tuple[Check, ...] = (packages, machine, triton, models, ports, running)


def examine(config: Config, checks: tuple[Check, ...] = _CHECKS) -> Iterator[Finding]:
    """Runs every check and yields what it finds, as it finds it."""
    for check in checks:
        try:
            yield from check(config)
        except Exception as error:
            reason = f"the check itself failed: {type(error).__name__}: {error}"
            yield Finding(check.__name__, Status.FAILED, reason, "please report this")


def healthy(findings: list[Finding]) -> bool:
    """Returns whether nothing failed; warnings are no failures."""
    return all(finding.status is not Status.FAILED for finding in findings)
