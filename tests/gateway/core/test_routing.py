import random
from typing import Any

import pytest

from gateway.core.routing import BUCKETS, bucket, check_route, choose, decide, sticky_key
from gateway.messages import ParameterValue
from gateway.routes import Route, RouteRule, RuleOperator, RuleSource, StickyKey


def keys_by_bucket() -> dict[int, str]:
    """One key for every bucket, so that shares can be checked exactly."""
    found: dict[int, str] = {}
    n = 0
    while len(found) < BUCKETS:
        key = f"k{n}"
        found.setdefault(bucket("salt", key), key)
        n += 1
    return found


@pytest.fixture(scope="module")
def keys() -> list[str]:
    return list(keys_by_bucket().values())


@pytest.mark.parametrize("weight", [0, 1, 100, 2_500, 5_000, 9_999, 10_000])
def test_shares_are_exact_over_all_buckets(keys: list[str], weight: int) -> None:
    route = Route("m", ((1, BUCKETS - weight), (2, weight)), "salt")
    assert sum(choose(route, key) == 2 for key in keys) == weight


def test_raising_the_weight_of_the_first_target_only_adds_keys(keys: list[str]) -> None:
    before: set[str] = set()
    for weight in range(0, BUCKETS + 1, 500):
        route = Route("m", ((2, weight), (1, BUCKETS - weight)), "salt")
        now = {key for key in keys if choose(route, key) == 2}
        assert before <= now
        before = now


def test_a_decision_is_the_same_in_every_process() -> None:
    # Pinned values: a changed hash would move every caller to another version during a release.
    assert [bucket("a", key) for key in ("", "user-1", "ü", "\ud800")] == [5537, 3905, 3277, 5394]


def test_salts_are_independent() -> None:
    generator = random.Random(1)
    sample = [str(generator.random()) for _ in range(2_000)]
    both = sum(bucket("a", key) < 5_000 and bucket("b", key) < 5_000 for key in sample)
    assert 400 < both < 600


@pytest.mark.parametrize(
    "targets", [(), ((1, 9_999),), ((1, 5_000), (1, 5_000)), ((1, -1), (2, 10_001)), ((1, 20_000),)]
)
def test_bad_routes_are_refused(targets: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="m"):
        check_route(Route("m", targets))


def test_good_route_passes() -> None:
    check_route(Route("m", ((1, 0), (2, 10_000))))


# ---------------------------------------------------------------------- whole decisions


CANARY = ((2, 1_000), (1, 9_000))


def release_route(**changes: Any) -> Route:
    fields: dict[str, Any] = {"salt": "salt", "arms": ("candidate", "stable"), "release_id": "r1"} | changes
    return Route("m", CANARY, **fields)


def header_rule(operator: RuleOperator, *values: str) -> RouteRule:
    return RouteRule(RuleSource.HEADER, "x-tester", operator, values, 7)


def test_every_weight_gets_exactly_its_buckets_and_only_adds(keys: list[str]) -> None:
    by_bucket = {bucket("salt", key): key for key in keys}
    for weight in range(BUCKETS + 1):
        route = Route("m", ((2, weight), (1, BUCKETS - weight)), "salt")
        # The candidate owns exactly the buckets below its weight, so that the edges say it all.
        if weight:
            assert choose(route, by_bucket[0]) == choose(route, by_bucket[weight - 1]) == 2
        if weight < BUCKETS:
            assert choose(route, by_bucket[weight]) == choose(route, by_bucket[BUCKETS - 1]) == 1


def test_every_bucket_of_every_tenth_weight(keys: list[str]) -> None:
    for weight in (*range(0, BUCKETS + 1, 1_000), 1, 9_999):
        route = Route("m", ((2, weight), (1, BUCKETS - weight)), "salt")
        assert sum(decide(route, key, {}, {}).version == 2 for key in keys) == weight


def test_a_decision_says_why(keys: list[str]) -> None:
    for key in keys[:200]:
        decision = decide(release_route(), key, {}, {})
        assert decision.bucket == bucket("salt", key)
        assert (decision.arm, decision.version) == (("candidate", 2) if decision.bucket < 1_000 else ("stable", 1))
        assert (decision.rule, decision.release_id) == (-1, "r1")


@pytest.mark.parametrize(
    ("rule", "value", "taken"),
    [
        (header_rule(RuleOperator.EQUALS, "yes"), b"yes", True),
        (header_rule(RuleOperator.EQUALS, "yes"), b"YES", False),
        (header_rule(RuleOperator.EQUALS, "yes"), None, False),
        (header_rule(RuleOperator.EQUALS, ""), b"", True),
        (header_rule(RuleOperator.PREFIX, "qa-", "dev-"), b"dev-7", True),
        (header_rule(RuleOperator.PREFIX, "qa-"), b"q", False),
        (header_rule(RuleOperator.IN, "a", "b"), b"b", True),
        (header_rule(RuleOperator.IN, "a", "b"), b"ab", False),
        (header_rule(RuleOperator.EQUALS, "ü"), "ü".encode("latin-1"), True),
        (header_rule(RuleOperator.EQUALS, "ü"), "ü".encode(), True),
    ],
)
def test_header_rules(rule: RouteRule, value: bytes | None, taken: bool) -> None:
    headers = {} if value is None else {b"x-tester": value}
    decision = decide(release_route(rules=(rule,)), "key", headers, {})
    assert (decision.version == 7, decision.rule) == (taken, 0 if taken else -1)
    assert (decision.bucket == -1) == taken


@pytest.mark.parametrize("value", ["5", 5, 5.0])
def test_a_parameter_compares_the_same_whatever_its_type(value: ParameterValue) -> None:
    rule = RouteRule(RuleSource.PARAMETER, "tier", RuleOperator.EQUALS, ("5",), 7)
    assert decide(release_route(rules=(rule,)), "key", {}, {"tier": value}).version == 7


def test_the_first_rule_that_matches_decides() -> None:
    first, second = header_rule(RuleOperator.PREFIX, "a"), RouteRule(
        RuleSource.HEADER, "x-tester", RuleOperator.EQUALS, ("ab",), 8
    )  # fmt: skip
    decision = decide(release_route(rules=(first, second)), "key", {b"x-tester": b"ab"}, {})
    assert (decision.rule, decision.version) == (0, 7)


def test_where_a_sticky_key_is_found() -> None:
    headers = {b"x-user": b"u1"}
    default = StickyKey()
    assert sticky_key(default, "k", headers, {}) == "k"
    assert sticky_key(default, "", headers, {}) is None
    assert sticky_key(StickyKey("x-user"), "k", headers, {}) == "u1"
    assert sticky_key(StickyKey("x-user"), "k", {}, {}) is None
    assert sticky_key(StickyKey("x-user", "user"), None, {}, {"user": 12}) == "12"
    assert sticky_key(StickyKey("x-user", "user"), None, headers, {"user": 12}) == "u1"
    assert sticky_key(StickyKey("", "user"), "k", headers, {"user": True}) == "true"


def test_stable_may_hold_the_place_of_an_arm_that_is_not_ready() -> None:
    whole = Route("m", ((2, 3_000), (3, 3_000), (1, 4_000)), "s", arms=("a", "b", "stable"), release_id="r")
    without = Route("m", ((1, 3_000), (3, 3_000), (1, 4_000)), "s", arms=("stable", "b", "stable"), release_id="r")
    check_route(without)
    for n in range(500):
        before, after = decide(whole, f"k{n}", {}, {}), decide(without, f"k{n}", {}, {})
        assert after.version == (1 if before.version == 2 else before.version)
        assert after.arm == {1: "stable", 3: "b"}[after.version]
