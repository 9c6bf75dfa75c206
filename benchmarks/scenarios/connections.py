"""From 1 to 1,000 connections, one request at a time on each: both arms, gRPC, the small network."""

from __future__ import annotations

import statistics

from benchmarks.scenarios.session import Session

CONNECTIONS = (1, 10, 100, 1000)
_ARMS = ("triton_0us", "sluice")
_SECONDS = 0.5


def run(session: Session) -> None:
    """Adds requests/s of both arms by connections. Raises LoadFailed."""
    tensors = session.tensors("small_net")
    session.prepare("small_net", _ARMS, tensors)
    points = []
    for connections in CONNECTIONS:
        done = session.alternate(
            f"{connections} connections",
            lambda arm, c=connections: session.closed(arm, "small_net", "grpc", tensors, c, 1, _SECONDS),
            max(2, session.scale.few() // 2),
            _ARMS,
        )
        points.append(
            {
                "connections": connections,
                "requests_per_second": {arm: round(statistics.mean(rates)) for arm, rates in done.rates.items()},
                "command": done.commands["sluice"],
            }
        )
        session.results["scenarios"]["connections"] = {"points": points, "command": points[-1]["command"]}
