"""Requests take the version that the route says, the same over every door, and `explain` says what happens."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.merging import HeadCache
from gateway.core.plans import BatchLimits
from gateway.engine.explaining import RouteQuestion, explain
from gateway.engine.flights import Flights
from gateway.engine.scheduler import VersionScheduler
from gateway.engine.served import ServedVersion
from gateway.errors import ErrorCode, GatewayError
from gateway.frontends.context import ContextFactory
from gateway.messages import InferRequest, RequestContext, RequestHead
from gateway.routes import Route, RouteRule, RouteTable, RuleOperator, RuleSource, StickyKey
from gateway.versions import ModelVersion, VersionState
from tests.support.engine import METADATA, Caller, World

TESTERS = RouteRule(RuleSource.HEADER, "x-tester", RuleOperator.EQUALS, ("yes",), 2)
TIER = RouteRule(RuleSource.PARAMETER, "tier", RuleOperator.PREFIX, ("beta",), 3)


class Releasing(World):
    """Versions 1 (stable), 2 (candidate) and 3 of model `m`, and a route of a release."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.all = {1: self.served, 2: self.add(2), 3: self.add(3)}
        fields: dict[str, Any] = {
            "targets": ((2, 1_000), (1, 9_000)),
            "salt": "s",
            "rules": (TESTERS, TIER),
            "arms": ("candidate", "stable"),
            "release_id": "r1",
        }
        self.route = Route("m", **(fields | changes))
        self.service.publish(RouteTable(2, {"m": self.route}), {"m": self.all})
        self.contexts = ContextFactory(self.clock.now, "gw-", 1000, 1000)

    def add(self, number: int) -> ServedVersion:
        version = ModelVersion("m", number)
        self.replica.ready_versions.add(version)
        profile = CostProfile()
        scheduler = VersionScheduler(
            version,
            Batcher(BatchLimits(max_rows=8), profile),
            profile,
            Flights(version, self.replicas, 1, 2),
            self.clock,
            self.observer,
            HeadCache(),
            lambda version, replica: None,
        )
        served = ServedVersion(version, METADATA, scheduler)
        served.state = VersionState.READY
        return served

    def send(
        self, headers: dict[bytes, bytes] | None = None, parameters: dict[str, Any] | None = None, version: str = ""
    ) -> tuple[int, RequestContext]:
        """Submits one request; returns the version it was queued for and its context."""
        head = RequestHead("m", version or None, self.head(1).inputs, parameters=parameters or {})
        context = self.contexts.make(head.parameters, headers or {}, "grpc", None, "m")
        pending = self.service.submit(InferRequest(head, "", [bytes(8)]), context, Caller())
        return pending.scheduler.version.number, context

    def asked(self, headers: dict[bytes, bytes], parameters: dict[str, Any], request_id: str) -> RouteQuestion:
        return RouteQuestion(
            model_name="m",
            request_id=request_id,
            headers={name.decode(): value.decode() for name, value in headers.items()},
            parameters=parameters,
        )


def test_explain_equals_what_happens_for_every_kind_of_request() -> None:
    world = Releasing()
    for n in range(400):
        headers = {b"x-sluice-sticky-key": f"ü-user-{n}".encode()} if n % 3 else {}
        if n % 7 == 0:
            headers[b"x-tester"] = b"yes" if n % 2 else b"no"
        parameters = {"tier": "beta-1" if n % 2 else "gold"} if n % 11 == 0 else {}
        version, context = world.send(headers, parameters)
        said = explain(world.service, world.asked(headers, parameters, context.request_id))
        decision = context.decision
        assert decision is not None
        assert (said.version, said.rule, said.bucket, said.arm) == (
            version,
            decision.rule if decision.rule >= 0 else None,
            decision.bucket if decision.bucket >= 0 else None,
            decision.arm,
        )
        assert said.ready
        assert said.replica == "r0"
        assert said.reasons


def test_a_rule_comes_before_the_split() -> None:
    world = Releasing(targets=((2, 0), (1, 10_000)))
    assert world.send({b"x-tester": b"yes"})[0] == 2
    assert world.send(parameters={"tier": "beta"})[0] == 3
    assert {world.send()[0] for _ in range(100)} == {1}


def test_a_rule_for_a_version_that_is_not_ready_is_passed_over_and_counted() -> None:
    world = Releasing(targets=((2, 0), (1, 10_000)))
    world.all[2].state = VersionState.DRAINING
    version, context = world.send({b"x-tester": b"yes"})
    assert version == 1
    assert context.decision is not None
    assert context.decision.arm == "stable"
    assert world.service.rules_passed_over == {"m": 1}
    said = explain(world.service, world.asked({b"x-tester": b"yes"}, {}, "r"))
    assert said.version == 1
    assert "passed over" in " ".join(said.reasons)
    assert world.service.rules_passed_over == {"m": 1}, "explaining counts nothing"


def test_the_share_of_a_candidate_that_is_not_ready_goes_to_stable() -> None:
    world = Releasing(targets=((2, 10_000), (1, 0)))
    assert world.send()[0] == 2
    world.all[2].state = VersionState.LOADING
    version, context = world.send()
    assert version == 1
    assert context.decision is not None
    assert context.decision.arm == "stable"


def test_an_explicit_version_bypasses_rules_and_split_and_is_not_counted() -> None:
    world = Releasing(targets=((2, 10_000), (1, 0)))
    version, context = world.send({b"x-tester": b"yes"}, version="1")
    assert version == 1
    assert context.decision is None
    said = explain(world.service, RouteQuestion(model_name="m", version="1"))
    assert (said.version, said.bucket, said.arm) == (1, None, "")
    world.all[3].state = VersionState.LOADING
    with pytest.raises(GatewayError) as refused:
        world.send(version="3")
    assert refused.value.code is ErrorCode.MODEL_NOT_READY
    assert not explain(world.service, RouteQuestion(model_name="m", version="3")).ready


@pytest.mark.parametrize(
    "sticky", [StickyKey("x-user"), StickyKey("x-user", "sluice_user"), StickyKey("", "sluice_user")]
)
def test_a_key_from_elsewhere_sticks(sticky: StickyKey) -> None:
    world = Releasing(sticky=sticky, targets=((2, 5_000), (1, 5_000)), rules=())
    for n in range(50):
        key = f"user-{n}"
        headers = {b"x-user": key.encode()} if sticky.header else {}
        parameters = {} if sticky.header else {"sluice_user": key}
        versions = {world.send({**headers, b"x-sluice-sticky-key": b"other"}, parameters)[0] for _ in range(3)}
        said = explain(world.service, RouteQuestion(model_name="m", sticky_key=key))
        assert versions == {said.version}


def test_without_key_and_id_nobody_can_say() -> None:
    world = Releasing(rules=())
    said = explain(world.service, RouteQuestion(model_name="m"))
    assert (said.version, said.bucket, said.replica) == (None, None, None)
    assert "no sticky key" in said.reasons[-1]


def test_a_model_without_a_release_decides_nothing() -> None:
    world = Releasing(targets=((1, 10_000),), rules=(), arms=(), release_id="")
    version, context = world.send({b"x-sluice-sticky-key": b"k"})
    assert version == 1
    assert context.decision is None


def test_metadata_without_a_version_is_that_of_stable() -> None:
    world = Releasing(targets=((2, 100), (1, 9_900)))
    world.all[1].metadata = METADATA
    assert world.service.metadata("m", None).name == "m"
    assert world.service._find("m", None) is world.all[1]


def test_an_unknown_model_cannot_be_explained() -> None:
    with pytest.raises(GatewayError) as refused:
        explain(Releasing().service, RouteQuestion(model_name="other"))
    assert refused.value.code is ErrorCode.MODEL_NOT_FOUND
