"""A gateway that counts nothing and logs nothing, to measure what metrics and access log cost.

    python -m benchmarks.scenarios.silent_gateway serve …

The configuration can switch the access log off but not the metrics, so their observer is replaced here.
"""

from __future__ import annotations

import sys
from typing import Any

import gateway.app.telemetry
from gateway.cli import main


class SilentObserver:
    """Hears everything and keeps nothing."""

    def request_done(self, *_: Any) -> None: ...

    def requests_done(self, *_: Any) -> None: ...

    def batch_done(self, *_: Any) -> None: ...

    def version_state(self, *_: Any) -> None: ...


if __name__ == "__main__":
    gateway.app.telemetry.combined = lambda *_: SilentObserver()  # type: ignore[assignment,return-value]
    sys.exit(main())
