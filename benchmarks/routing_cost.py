"""What a routing decision costs: best of several rounds, microseconds a request.

Run: python -m benchmarks.routing_cost. Rounds alternate between the cases, so that a busy machine hits all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import timeit
from collections.abc import Callable

from gateway.core.admission import Admission
from gateway.core.batching import Batcher, BatchLimits
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache
from gateway.core.routing import choose, decide
from gateway.engine.clock import LoopClock
from gateway.engine.flights import Flights
from gateway.engine.replicas import ReplicaSet
from gateway.engine.scheduler import VersionScheduler
from gateway.engine.served import ServedVersion
from gateway.engine.service import InferService
from gateway.messages import ModelMetadata, RequestContext
from gateway.routes import Route, RouteRule, RouteTable, RuleOperator, RuleSource
from gateway.telemetry.metrics import Metrics
from gateway.versions import ModelVersion, VersionState

ROUNDS, CALLS = 15, 50_000
HEADERS = {b"host": b"gateway", b"content-type": b"application/json", b"x-sluice-sticky-key": b"user-123456"}
RULES = (
    RouteRule(RuleSource.HEADER, "x-tester", RuleOperator.EQUALS, ("yes",), 2),
    RouteRule(RuleSource.PARAMETER, "tier", RuleOperator.IN, ("beta", "internal"), 2),
)
CANARY = ((2, 1_000), (1, 9_000))


def measure(rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, float]:
    """Returns microseconds a decision for each case, the best of so many rounds of so many calls."""
    plain = Route("m", ((1, 10_000),))
    canary = Route("m", CANARY, "salt", arms=("candidate", "stable"), release_id="r1")
    ruled = Route("m", CANARY, "salt", RULES, arms=("candidate", "stable"), release_id="r1")
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        service = _service(ruled, LoopClock(loop))
    context = RequestContext("id", 0, 0, "grpc", sticky_key="user-123456", headers=HEADERS)
    cases: dict[str, Callable[[], object]] = {
        "no release": lambda: choose(plain, "user-123456"),
        "canary": lambda: decide(canary, "user-123456", HEADERS, {}),
        "canary and two rules": lambda: decide(ruled, "user-123456", HEADERS, {}),
        "whole decision of the service, two rules": lambda: service.decide(ruled, context, {}, counted=False),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, case in cases.items():
            best[name] = min(best[name], timeit.timeit(case, number=calls) / calls * 1e6)
    return {name: round(value, 3) for name, value in best.items()}


def _served(number: int, clock: LoopClock, metrics: Metrics) -> ServedVersion:
    """Returns a version without a replica: a decision looks only at whether it is ready."""
    version, profile = ModelVersion("m", number), CostProfile()
    scheduler = VersionScheduler(
        version, Batcher(BatchLimits(max_rows=8), profile), profile, Flights(version, ReplicaSet([]), 1, 2), clock,
        metrics, HeadCache(), lambda version, replica: None,
    )  # fmt: skip
    served = ServedVersion(version, ModelMetadata("m", (str(number),), "", (), ()), scheduler)
    served.state = VersionState.READY
    return served


def _service(route: Route, clock: LoopClock) -> InferService:
    metrics = Metrics(clock.now, (1000,))
    service = InferService(clock, metrics, Admission(1, 1))
    versions = {number: _served(number, clock, metrics) for number in (1, 2)}
    service.publish(RouteTable(1, {"m": route}), {"m": versions})
    return service


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
