"""What people write to start a release."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.registry.release_options import OptionProblems, plan_of
from gateway.releases import Arm, OutputRule, ReleaseKind, Step
from gateway.routes import RouteRule, RuleOperator, RuleSource

HOUR = 3600 * 1_000_000_000


def read(**options: Any) -> Any:
    return plan_of("m", {"candidate": 2} | options, actor="ann", reason="")


def test_defaults_are_a_canary_through_five_shares_after_a_shadow() -> None:
    plan = read()
    assert [step.weight for step in plan.steps] == [0, 100, 500, 2500, 5000, 10_000]
    assert plan.steps[0] == Step(0, 24 * HOUR, False)
    assert (plan.kind, plan.judged, plan.watch_after) == (ReleaseKind.CANARY, True, HOUR)


def test_steps_times_and_approvals() -> None:
    plan = read(steps="0.5%, 12.25%,100%", max_step_time="90m", approve="last")
    assert plan.steps == (Step(50, 3 * HOUR // 2), Step(1225, 3 * HOUR // 2), Step(10_000, 3 * HOUR // 2, True))
    assert all(step.approval for step in read(approve="each").steps)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("header X-Tester equals yes -> 3", RouteRule(RuleSource.HEADER, "x-tester", RuleOperator.EQUALS, ("yes",), 3)),
        (
            "parameter User in a, b -> candidate",
            RouteRule(RuleSource.PARAMETER, "User", RuleOperator.IN, ("a", "b"), 2),
        ),
        ("header h prefix a b -> 2", RouteRule(RuleSource.HEADER, "h", RuleOperator.PREFIX, ("a b",), 2)),
    ],
)
def test_rules(text: str, rule: RouteRule) -> None:
    assert read(rules=[text]).rules == (rule,)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("y=label", OutputRule("y", "label")),
        ("y=label:5", OutputRule("y", "label", top_k=5)),
        ("y=close:0.1", OutputRule("y", "close", absolute=0.1)),
        ("y=close:0.1:0.2", OutputRule("y", "close", 0.1, 0.2)),
        ("y=cosine:0.99", OutputRule("y", "cosine", absolute=1 - 0.99)),
        ("y=bytes", OutputRule("y", "bytes")),
    ],
)
def test_comparisons(text: str, rule: OutputRule) -> None:
    assert read(compare=[text]).outputs == (rule,)


def test_arms_make_an_ab_release_that_nobody_judges() -> None:
    plan = read(candidate=None, arms=["b=2:30%", "c=3:0.01%"])
    assert (plan.kind, plan.steps, plan.judged) == (ReleaseKind.AB, (), False)
    assert plan.arms == (Arm("b", 2, 3000), Arm("c", 3, 1))


def test_criteria_are_rates_or_off() -> None:
    criteria = read(error_rate="5%", nan_rate="off", latency_increase="0.3", latency_quantiles="50,99",
                    consecutive_failures="off").criteria  # fmt: skip
    assert (criteria.error_rate, criteria.nan_rate, criteria.latency_increase) == (0.05, None, 0.3)
    assert (criteria.latency_quantiles, criteria.consecutive_failures) == ((0.5, 0.99), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate": None}, "candidate: say which version"),
        ({"candidate": True}, "candidate: must be of type int"),
        ({"candidate": "2"}, "candidate: must be of type int"),
        ({"steps": "1"}, "steps: '1' is not a share"),
        ({"steps": "1%,,2%"}, "steps: '' is not a share"),
        ({"steps": "0.001%"}, "steps"), ({"steps": "101%"}, "steps"), ({"steps": "nan%"}, "steps"),
        ({"arms": ["b=2"], "candidate": None}, "arms: 'b=2' is not NAME=VERSION:SHARE"),
        ({"arms": ["b=2:10%"], "candidate": 3}, "candidate: an A/B release names"),
        ({"arms": ["b=2:10%"], "candidate": None, "steps": "1%"}, "steps: an A/B release"),
        ({"rules": ["header x like y -> 3"]}, "rules: 'header x like y -> 3' is not"),
        ({"rules": ["header x equals y -> nobody"]}, "neither a version nor an arm"),
        ({"compare": ["y=close:-1"]}, "compare"), ({"compare": ["=label"]}, "compare"),
        ({"compare": ["y=label:0"]}, "compare"), ({"compare": ["y=cosine:2"]}, "compare"),
        ({"compare": ["y=label:inf"]}, "compare"), ({"compare": ["y=close:1:2:3"]}, "compare"),
        ({"error_rate": "0"}, "error_rate"), ({"error_rate": "lots"}, "error_rate"),
        ({"max_step_time": "soon"}, "max_step_time"), ({"watch_after": "-1h"}, "watch_after"),
        ({"latency_quantiles": "50,50"}, "latency_quantiles"), ({"latency_quantiles": "100"}, "latency_quantiles"),
        ({"consecutive_failures": "0"}, "consecutive_failures"), ({"kind": "big-bang"}, "kind"),
        ({"approve": "maybe"}, "approve"), ({"on_newer": 1}, "on_newer"), ({"colour": "red"}, "colour: there is no"),
        ({"alpha": "low"}, "alpha: must be of type float"), ({"rules": "x"}, "rules: must be of type list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionProblems) as caught:
        read(**options)
    assert message in str(caught.value)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(OptionProblems) as caught:
        read(steps="x", error_rate="x", watch_after="x")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["error_rate", "steps", "watch_after"]
