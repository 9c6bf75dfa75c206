"""Says where a request would go and why, by asking the very code that routes requests. Changes and counts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.routing import DEFAULT_HEADER, decide, sticky_key
from gateway.engine.service import InferService
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Parameters, RequestContext
from gateway.routes import BUCKETS, Route, RouteDecision, RouteRule, RuleOperator
from gateway.versions import VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteQuestion:
    """A request as far as routing looks at it; `headers` and their names as the client would send them.

    `version` is set where the caller names one. Without a sticky key the request id decides; without either nobody can
    say where a split sends it.
    """

    model_name: str
    sticky_key: str | None = None
    request_id: str | None = None
    headers: Mapping[str, str] | None = None
    parameters: Parameters | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteExplanation:
    """Where the request would go. `reasons` are sentences, in the order in which things were decided.

    `rule`, `bucket` and `version` are None where none matched, none was needed, or nothing can be said.
    """

    model_name: str
    version: int | None
    ready: bool
    release_id: str = ""
    arm: str = ""
    rule: int | None = None
    bucket: int | None = None
    key: str | None = None
    replica: str | None = None
    targets: tuple[tuple[int, int, str], ...] = ()
    generation: int = 0
    reasons: tuple[str, ...] = ()


def explain(service: InferService, question: RouteQuestion) -> RouteExplanation:
    """Returns where the request would go now, and why.

    Raises:
        GatewayError: MODEL_NOT_FOUND.
    """
    name = question.model_name
    if name not in service.versions:
        raise GatewayError(ErrorCode.MODEL_NOT_FOUND, f"unknown model '{name[:64]}'")
    if question.version is not None:
        return _named(service, question, question.version)
    route = service.table.routes.get(name)
    if route is None:
        return RouteExplanation(model_name=name, version=None, ready=False, reasons=("the model has no route",))
    # Values as most clients send them; the front ends read whatever bytes there are.
    headers = {key.lower().encode("latin-1", "replace"): value.encode("utf-8", "surrogatepass")
               for key, value in (question.headers or {}).items()}  # fmt: skip
    parameters = dict(question.parameters or {})
    if question.sticky_key is not None and route.sticky.header:
        headers[route.sticky.header.encode("latin-1", "replace")] = question.sticky_key.encode("utf-8", "surrogatepass")
    elif question.sticky_key is not None:
        parameters[route.sticky.parameter] = question.sticky_key
    given = headers.get(DEFAULT_HEADER.encode())
    request_id = question.request_id or headers.get(b"x-request-id", b"").decode("latin-1")
    context = RequestContext(
        request_id, 0, 0, "explain", sticky_key=None if given is None else given.decode("latin-1"), headers=headers
    )
    key = sticky_key(route.sticky, context.sticky_key, headers, parameters)
    meant = decide(route, key or context.request_id, headers, parameters)
    decision = service.decide(route, context, parameters, counted=False)
    unknown = key is None and not request_id and len(route.targets) > 1 and decision.rule < 0
    return RouteExplanation(
        model_name=name,
        version=None if unknown else decision.version,
        ready=not unknown and _ready(service, name, decision.version),
        release_id=route.release_id,
        arm="" if unknown else decision.arm,
        rule=decision.rule if decision.rule >= 0 else None,
        bucket=decision.bucket if decision.bucket >= 0 and not unknown else None,
        key=key or request_id or None,
        replica=None if unknown else _replica(service, name, decision.version),
        targets=_targets(route),
        generation=service.table.generation,
        reasons=tuple(_reasons(service, route, key, meant, decision, unknown=unknown)),
    )


def _named(service: InferService, question: RouteQuestion, number: str) -> RouteExplanation:
    name = question.model_name
    found = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else -1
    if str(found) != number or found not in service.versions[name]:
        raise GatewayError(ErrorCode.MODEL_NOT_FOUND, f"model '{name}' has no version '{number[:64]}'")
    ready = _ready(service, name, found)
    reasons = ["the caller names the version: rules and shares do not apply, and no release counts it"]
    if not ready:
        reasons.append(f"version {found} is {service.versions[name][found].state.value}: the request would be refused")
    return RouteExplanation(
        model_name=name,
        version=found,
        ready=ready,
        replica=_replica(service, name, found),
        generation=service.table.generation,
        reasons=tuple(reasons),
    )


def _reasons(
    service: InferService,
    route: Route,
    key: str | None,
    meant: RouteDecision,
    decision: RouteDecision,
    *,
    unknown: bool,
) -> list[str]:
    name = route.model_name
    reasons = []
    if meant.rule >= 0:
        reasons.append(f"rule {meant.rule} matches: {rule_text(route.rules[meant.rule])}")
        if decision.rule < 0:
            reasons.append(f"version {meant.version} takes no requests now, so the rule is passed over")
    elif route.rules:
        reasons.append(f"none of the {len(route.rules)} rules matches")
    if decision.rule >= 0:
        return reasons
    if len(route.targets) == 1:
        reasons.append(f"version {decision.version} gets everything else")
        return reasons
    if unknown:
        reasons.append("no sticky key and no request id is given: each request id falls into a bucket of its own")
        return reasons
    what = f"sticky key {key!r}" if key is not None else "the request id (there is no sticky key)"
    first = 0
    for (number, weight), arm in zip(route.targets, route.arms or ("",) * len(route.targets), strict=True):
        if first <= decision.bucket < first + weight:
            reasons.append(
                f"{what} falls into bucket {decision.bucket} of {BUCKETS}; {first} to {first + weight - 1} belong to "
                f"{arm or 'version'} (version {number})"
            )
            if number != decision.version:
                reasons.append(f"version {number} takes no requests now: the stable version answers")
        first += weight
    if not _ready(service, name, decision.version):
        reasons.append(f"version {decision.version} is not ready: the request would be refused")
    return reasons


def rule_text(rule: RouteRule) -> str:
    """Returns the rule as a person reads it."""
    values = ", ".join(repr(value) for value in rule.values)
    operator = {RuleOperator.EQUALS: "equals", RuleOperator.PREFIX: "begins with", RuleOperator.IN: "is one of"}
    return f"{rule.source.value} {rule.name} {operator[rule.operator]} {values} -> version {rule.version}"


def _targets(route: Route) -> tuple[tuple[int, int, str], ...]:
    arms = route.arms or ("",) * len(route.targets)
    return tuple((number, weight, arm) for (number, weight), arm in zip(route.targets, arms, strict=True))


def _ready(service: InferService, name: str, number: int) -> bool:
    served = service.versions.get(name, {}).get(number)
    return served is not None and served.state is VersionState.READY


def _replica(service: InferService, name: str, number: int) -> str | None:
    served = service.versions.get(name, {}).get(number)
    if served is None or served.state is not VersionState.READY:
        return None
    replica = served.scheduler.flights.next_replica()
    return replica.name if replica is not None else None
