"""What a routing decision costs: best of several rounds, microseconds a request.

Run: python -m benchmarks.routing_cost. Rounds alternate between the cases, so that a busy machine hits all of them.
"""

from __future__ import annotations

import asyncio
import json
import timeit
from collections.abc import Callable

from gateway.core.admission import Admission
from gateway.core.routing import choose, decide
from gateway.engine.clock import LoopClock
from gateway.engine.service import InferService
from gateway.messages import RequestContext
from gateway.routes import Route, RouteRule, RouteTable, RuleOperator, RuleSource
from gateway.telemetry.metrics import Metrics
from gateway.versions import VersionState

ROUNDS, CALLS = 15, 50_000
HEADERS = {b"host": b"gateway", b"content-type": b"application/json", b"x-sluice-sticky-key": b"user-123456"}
RULES = (
    RouteRule(RuleSource.HEADER, "x-tester", RuleOperator.EQUALS, ("yes",), 2),
    RouteRule(RuleSource.PARAMETER, "tier", RuleOperator.IN, ("beta", "internal"), 2),
)
CANARY = ((2, 1_000), (1, 9_000))


def measure() -> dict[str, float]:
    """Returns microseconds a decision for each case."""
    plain = Route("m", ((1, 10_000),))
    canary = Route("m", CANARY, "salt", arms=("candidate", "stable"), release_id="r1")
    ruled = Route("m", CANARY, "salt", RULES, arms=("candidate", "stable"), release_id="r1")
    service = _service(ruled)
    context = RequestContext("id", 0, 0, "grpc", sticky_key="user-123456", headers=HEADERS)
    cases: dict[str, Callable[[], object]] = {
        "no release": lambda: choose(plain, "user-123456"),
        "canary": lambda: decide(canary, "user-123456", HEADERS, {}),
        "canary and two rules": lambda: decide(ruled, "user-123456", HEADERS, {}),
        "whole decision of the service, two rules": lambda: service.decide(ruled, context, {}, counted=False),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, case in cases.items():
            best[name] = min(best[name], timeit.timeit(case, number=CALLS) / CALLS * 1e6)
    return {name: round(value, 3) for name, value in best.items()}


class _Version:
    """As much of a served version as a decision looks at."""

    state = VersionState.READY
    scheduler = None


def _service(route: Route) -> InferService:
    clock = LoopClock(asyncio.new_event_loop())
    service = InferService(clock, Metrics(clock.now, (1000,)), Admission(1, 1))
    version = _Version()
    service.publish(RouteTable(1, {"m": route}), {"m": {1: version, 2: version}})  # type: ignore[dict-item]
    return service


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
