"""A gateway that can be told to count and log nothing for a while, to measure what metrics and access log cost.

    python -m benchmarks.scenarios.switched_gateway serve …

SIGUSR2 silences it, SIGUSR1 lets it count and log again, as it does at first. One process for both: two gateways of the
same code differ by more than what is looked for (where their memory lies, what their Tritons do).
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import gateway.app.telemetry
from gateway.cli import main
from gateway.ports import Observer
from gateway.telemetry.observers import combined

COUNT, SILENCE = signal.SIGUSR1, signal.SIGUSR2


class Switch:
    """Passes on to an observer, or, while `silent`, to nobody."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self.silent = False
        self.version_state = inner.version_state

    def request_done(self, *said: Any) -> None:
        if not self.silent:
            self._inner.request_done(*said)

    def requests_done(self, *said: Any) -> None:
        if not self.silent:
            self._inner.requests_done(*said)

    def batch_done(self, *said: Any) -> None:
        if not self.silent:
            self._inner.batch_done(*said)


def _switched(*of: Any) -> Switch:
    switch = Switch(combined(*of))

    def turn(number: int, _: Any) -> None:
        switch.silent = number == SILENCE

    signal.signal(COUNT, turn)
    signal.signal(SILENCE, turn)
    return switch


if __name__ == "__main__":
    gateway.app.telemetry.combined = _switched  # type: ignore[assignment]
    sys.exit(main())
