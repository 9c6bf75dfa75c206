"""What a release means for the route: shares, places, and what is over routes nothing."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.core.release_routes import on_trial, route_of, wanted_versions
from gateway.core.routing import check_route, decide
from gateway.releases import Arm, Release, ReleaseKind, ReleaseStatus
from gateway.routes import DEFAULT_STICKY, RouteRule, RuleOperator, RuleSource, StickyKey
from tests.support.releases import WEIGHTS, plan, running

RULE = RouteRule(RuleSource.HEADER, "x-tester", RuleOperator.EQUALS, ("yes",), 2)


def as_(release: Release, status: ReleaseStatus) -> Release:
    return Release(release.plan, dataclasses.replace(release.progress, status=status))


@pytest.mark.parametrize("step", range(len(WEIGHTS)))
def test_each_step_gives_its_share_and_only_adds_keys(step: int) -> None:
    route = route_of(running(plan(), step), 1, {2})
    check_route(route)
    weight = WEIGHTS[step]
    assert sum(share for number, share in route.targets if number == 2) == weight
    assert route.targets[-1] == (1, 10_000 - weight)
    if step:
        before = route_of(running(plan(), step - 1), 1, {2})
        for n in range(300):
            if decide(before, f"k{n}", {}, {}).version == 2:
                assert decide(route, f"k{n}", {}, {}).version == 2


def test_who_is_not_ready_gets_nothing() -> None:
    route = route_of(running(plan(rules=(RULE,)), 3), 1, set())
    assert route.targets == ((1, 10_000),)
    assert (route.arms, route.release_id) == (("stable",), "r1")
    assert route.rules == (RULE,), "a rule is passed over by who knows whether its version is ready at that moment"


def test_a_release_against_another_version_than_the_one_that_serves_routes_nothing() -> None:
    route = route_of(running(plan(rules=(RULE,)), 5), 7, {2})
    assert (route.targets, route.rules) == (((7, 10_000),), ())


def test_an_arm_that_is_not_ready_leaves_its_place_to_stable() -> None:
    arms = (Arm("a", 2, 3_000), Arm("b", 3, 3_000))
    test = running(plan(kind=ReleaseKind.AB, arms=arms))
    whole = route_of(test, 1, {2, 3})
    assert (whole.targets, whole.arms) == (((2, 3_000), (3, 3_000), (1, 4_000)), ("a", "b", "stable"))
    less = route_of(test, 1, {3})
    assert (less.targets, less.arms) == (((1, 3_000), (3, 3_000), (1, 4_000)), ("stable", "b", "stable"))
    check_route(less)


def test_a_shadow_never_answers() -> None:
    assert route_of(running(plan(kind=ReleaseKind.SHADOW), 5), 1, {2}).targets == ((1, 10_000),)


def test_a_paused_release_keeps_its_share() -> None:
    release = as_(running(plan(), 3), ReleaseStatus.PAUSED)
    assert route_of(release, 1, {2}).targets == ((2, 2_500), (1, 7_500))


def test_the_default_key_is_recognised_by_identity() -> None:
    assert route_of(running(plan(sticky=StickyKey())), 1, {2}).sticky is DEFAULT_STICKY
    assert route_of(running(plan(sticky=StickyKey("x-user"))), 1, {2}).sticky == StickyKey("x-user")


def test_what_must_be_loaded_after_a_rollback_that_is_not_written_down_yet() -> None:
    rolled_back = as_(running(plan(), 3), ReleaseStatus.ROLLED_BACK)
    assert wanted_versions((1, 2, 5), None) == (1, 2, 5)
    assert wanted_versions((1, 2, 5), running(plan())) == (1, 2, 5)
    assert wanted_versions((1, 2, 5), rolled_back) == (1, 5)
    assert wanted_versions((2, 1, 5), rolled_back) == (1, 5), "it had been promoted"
    assert wanted_versions((), rolled_back) == ()


def test_who_is_on_trial() -> None:
    assert on_trial(None) == frozenset()
    for status in (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED, ReleaseStatus.ROLLED_BACK):
        assert on_trial(as_(running(plan()), status)) == {2}
    assert on_trial(as_(running(plan()), ReleaseStatus.PROMOTED)) == frozenset()
