"""Which version answers a request that names none.

A decision is integer arithmetic on a stable hash of the route's salt and the caller's key: no random source, so it can
be replayed, every process agrees, and raising a version's weight only adds keys. 0 and 10,000 basis points are exact.
Rules come first, in order; what none of them matches is split.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import blake2b

from gateway.messages import Parameters, ParameterValue
from gateway.routes import BUCKETS, DEFAULT_STICKY, Route, RouteDecision, RuleOperator, RuleSource, StickyKey

Headers = Mapping[bytes, bytes]
NO_HEADERS: Headers = {}
DEFAULT_HEADER = DEFAULT_STICKY.header
_HEADER, _PREFIX = RuleSource.HEADER, RuleOperator.PREFIX
# Half the price of calling the class.
_make = tuple.__new__
_number = struct.Struct(">Q").unpack


def bucket(salt: str, key: str) -> int:
    """Returns the bucket (0 to 9,999) of `key` under `salt`; the same in every process and on every machine."""
    digest = blake2b(f"{salt}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number: int = _number(digest)[0]
    return number % BUCKETS


def choose(route: Route, key: str) -> int:
    """Returns the version number that `key` is sent to by the split alone.

    Raises:
        ValueError: the route's weights do not sum to 10,000.
    """
    targets = route.targets
    return targets[0][0] if len(targets) == 1 else split(route, key).version


def split(route: Route, key: str) -> RouteDecision:
    """Returns where the split sends `key`, whatever the rules say.

    Raises:
        ValueError: the route's weights do not sum to 10,000.
    """
    targets, arms = route.targets, route.arms
    if len(targets) == 1:
        return RouteDecision(targets[0][0], -1, -1, arms[0] if arms else "", route.release_id)
    # `bucket`, written out: this runs for every request of a model with a release.
    digest = blake2b(f"{route.salt}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    position = found = _number(digest)[0] % BUCKETS
    for index, (number, weight) in enumerate(targets):
        if position < weight:
            return _make(RouteDecision, (number, -1, found, arms[index] if arms else "", route.release_id))
        position -= weight
    raise ValueError(f"weights of {route.model_name} sum to less than {BUCKETS}")


def decide(route: Route, key: str, headers: Headers, parameters: Parameters) -> RouteDecision:
    """Returns which version a request goes to, and why.

    `key` is its sticky key, or its id where it has none (`sticky_key`); names in `headers` are lower case.
    """
    for index, rule in enumerate(route.rules):
        if rule.source is _HEADER:
            raw = headers.get(rule.wire_name)
            if raw is None:
                continue
            found = header_text(raw)
        else:
            value = parameters.get(rule.name) if parameters else None
            if value is None:
                continue
            found = parameter_text(value)
        if found.startswith(rule.values) if rule.operator is _PREFIX else found in rule.values:
            return RouteDecision(rule.version, index, -1, arm_of(route, rule.version), route.release_id)
    return split(route, key)


def header_text(raw: bytes) -> str:
    """Returns a header's value as rules compare it: UTF-8 where it is that, which is what most clients send."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def sticky_key(sticky: StickyKey, default: str | None, headers: Headers, parameters: Parameters) -> str | None:
    """Returns a request's sticky key, None if it has none (an empty one is none).

    `default` is the value of the default header, which has been read already.
    """
    key = default
    if sticky.header != DEFAULT_HEADER:
        raw = headers.get(sticky.header.encode("latin-1", "replace")) if sticky.header else None
        key = None if raw is None else raw.decode("latin-1")
    if not key and sticky.parameter:
        value = parameters.get(sticky.parameter)
        key = None if value is None else parameter_text(value)
    return key or None


def parameter_text(value: ParameterValue) -> str:
    """Returns a parameter as the text that rules and keys compare: the same whatever type a client sent it as."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def arm_of(route: Route, version: int) -> str:
    """Returns the name of the arm that `version` is, empty if it is none."""
    for (number, _), arm in zip(reversed(route.targets), reversed(route.arms), strict=False):
        if number == version:
            return arm
    return ""


def check_route(route: Route) -> None:
    """Raises ValueError unless the weights are integers from 0 to 10,000 that sum to 10,000 over distinct versions.

    The stable version, the last one, may stand in for others that are not ready.
    """
    numbers = [number for number, _ in route.targets]
    tried = [number for number in numbers if number != numbers[-1]]
    standing_in = len(numbers) - len(tried) > 1
    if len(set(tried)) != len(tried) or (standing_in and not route.release_id):
        raise ValueError(f"route of {route.model_name} names a version twice")
    if any(weight < 0 or weight > BUCKETS for _, weight in route.targets):
        raise ValueError(f"route of {route.model_name} has a weight outside 0 to {BUCKETS}")
    total = sum(weight for _, weight in route.targets)
    if total != BUCKETS:
        raise ValueError(f"weights of {route.model_name} sum to {total}, not {BUCKETS}")
    if route.arms and len(route.arms) != len(route.targets):
        raise ValueError(f"route of {route.model_name} has {len(route.arms)} arms for {len(route.targets)} targets")
