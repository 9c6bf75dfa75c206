"""Releases as JSON: what `serving.json` holds under `release`, `releases_queued` and `rejected`.

Parsing notes every problem with its dotted path and checks what a release must hold whoever wrote it; what was rendered
parses to the same value again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from gateway.registry.document import Reader
from gateway.releases import (
    CANDIDATE,
    STABLE,
    Arm,
    Criteria,
    OutputRule,
    Release,
    ReleaseKind,
    ReleasePlan,
    ReleaseProgress,
    ReleaseStatus,
    Step,
    SupersedePolicy,
)
from gateway.routes import BUCKETS, RouteRule, RuleOperator, RuleSource, StickyKey

MOST_ARMS, MOST_STEPS, MOST_RULES, MOST_VALUES, MOST_TEXT = 16, 50, 100, 1000, 500
_RATES = ("error_rate", "nan_rate", "disagreement_rate", "score_shift", "outcome_loss")
LEAST_LIMIT = 1e-6
"""No test can tell less from nothing, for lack of requests."""
COMPARISONS = ("auto", "label", "close", "cosine", "bytes")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A version that was rolled back: it is never a baseline, and a candidate only if somebody insists."""

    version: int
    release: str
    reason: str = ""
    at: str = ""


# ------------------------------------------------------------------ rendering


def render_release(release: Release) -> dict[str, Any]:
    """Returns the JSON object of `release`."""
    return {"plan": render_plan(release.plan), "progress": render_progress(release.progress)}


def render_progress(progress: ReleaseProgress) -> dict[str, Any]:
    return {
        "status": progress.status.value,
        "step": progress.step,
        "step_started_at_ns": progress.step_started_at,
        "decision": progress.decision,
        "awaiting": progress.awaiting,
        "detail": progress.detail,
        "evidence": progress.evidence,
    }


def render_plan(plan: ReleasePlan) -> dict[str, Any]:
    """Returns the JSON object of `plan`; what has its default value is written too, so that defaults may change."""
    return {
        "id": plan.id,
        "model": plan.model_name,
        "kind": plan.kind.value,
        "stable": plan.stable,
        "arms": [{"name": arm.name, "version": arm.version, "weight_bp": arm.weight} for arm in plan.arms],
        "steps": [
            {"weight_bp": step.weight, "max_time_ns": step.max_time, "approval": step.approval} for step in plan.steps
        ],
        "salt": plan.salt,
        "rules": [
            {"source": rule.source.value, "name": rule.name, "operator": rule.operator.value,
             "values": list(rule.values), "version": rule.version}
            for rule in plan.rules
        ],
        "sticky": {"header": plan.sticky.header, "parameter": plan.sticky.parameter},
        "criteria": {field.name: _plain(getattr(plan.criteria, field.name)) for field in fields(Criteria)},
        "outputs": [{field.name: getattr(rule, field.name) for field in fields(OutputRule)} for rule in plan.outputs],
        "segment_header": plan.segment_header,
        "shadow_share_bp": plan.shadow_share,
        "capture_inputs": plan.capture_inputs,
        "judged": plan.judged,
        "retry": plan.retry,
        "on_newer": plan.on_newer.value,
        "watch_after_ns": plan.watch_after,
        "actor": plan.actor,
        "reason": plan.reason,
        "created_at_ns": plan.created_at,
    }  # fmt: skip


def render_rejection(rejection: Rejection) -> dict[str, Any]:
    return {field.name: getattr(rejection, field.name) for field in fields(Rejection)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# ------------------------------------------------------------------ parsing


def read_release(reader: Reader) -> Release:
    """Returns the release that `reader` stands on; problems are noted there."""
    plan = read_plan(reader.child("plan"))
    progress = read_progress(reader.child("progress"))
    reader.close()
    if progress.step >= max(1, len(plan.steps)):
        reader.problem("progress.step", f"there are only {len(plan.steps)} steps")
    return Release(plan, progress)


def read_progress(reader: Reader) -> ReleaseProgress:
    progress = ReleaseProgress(
        status=reader.choice("status", ReleaseStatus),
        step=reader.integer("step", 0),
        step_started_at=reader.integer("step_started_at_ns", 0),
        decision=reader.integer("decision", 0),
        awaiting=reader.boolean("awaiting", False),
        detail=reader.text("detail", ""),
        evidence=reader.text("evidence", ""),
    )
    reader.close()
    return progress


def read_plan(reader: Reader) -> ReleasePlan:
    """Returns the plan that `reader` stands on, checked as a whole."""
    sticky = reader.child("sticky")
    plan = ReleasePlan(
        id=reader.text("id"),
        model_name=reader.text("model"),
        kind=reader.choice("kind", ReleaseKind),
        stable=reader.integer("stable", minimum=1),
        arms=tuple(_arm(arm) for arm in reader.objects("arms")),
        steps=tuple(_step(step) for step in reader.objects("steps")),
        salt=reader.text("salt"),
        rules=tuple(_rule(rule) for rule in reader.objects("rules", required=False)),
        sticky=StickyKey(sticky.text("header", StickyKey().header).lower(), sticky.text("parameter", "")),
        criteria=_criteria(reader.child("criteria")),
        outputs=tuple(_output(rule) for rule in reader.objects("outputs", required=False)),
        segment_header=reader.text("segment_header", "").lower(),
        shadow_share=reader.integer("shadow_share_bp", BUCKETS),
        capture_inputs=reader.boolean("capture_inputs", False),
        judged=reader.boolean("judged", True),
        retry=reader.boolean("retry", False),
        on_newer=reader.choice("on_newer", SupersedePolicy, SupersedePolicy.REFUSE),
        watch_after=reader.integer("watch_after_ns", 0),
        actor=reader.text("actor", ""),
        reason=reader.text("reason", ""),
        created_at=reader.integer("created_at_ns", 0),
    )
    sticky.close()
    reader.close()
    for key, message in plan_problems(plan):
        reader.problem(key, message)
    return plan


def read_rejection(reader: Reader) -> Rejection:
    rejection = Rejection(
        reader.integer("version", minimum=1), reader.text("release"), reader.text("reason", ""), reader.text("at", "")
    )
    reader.close()
    return rejection


def plan_problems(plan: ReleasePlan) -> list[tuple[str, str]]:
    """Returns what is wrong with the plan as a whole: (key, what)."""
    found: list[tuple[str, str]] = []
    names, numbers = [arm.name for arm in plan.arms], [arm.version for arm in plan.arms]
    if not 1 <= len(plan.arms) <= MOST_ARMS:
        found.append(("arms", f"must be 1 to {MOST_ARMS}"))
    if len({STABLE, *names}) != len(names) + 1 or len({plan.stable, *numbers}) != len(numbers) + 1:
        found.append(("arms", "every arm needs a name and a version of its own, other than the stable one's"))
    if len(plan.steps) > MOST_STEPS or len(plan.rules) > MOST_RULES:
        found.append(("steps", f"there may be {MOST_STEPS} steps and {MOST_RULES} rules"))
    if not 0 <= plan.shadow_share <= BUCKETS:
        found.append(("shadow_share_bp", f"must be 0 to {BUCKETS}"))
    found += [
        (f"rules[{index}].version", f"{rule.version} is no version of this release")
        for index, rule in enumerate(plan.rules)
        if rule.version not in {plan.stable, *numbers}
    ]
    return found + (_shares_problems(plan) if plan.kind is ReleaseKind.AB else _steps_problems(plan))


def _shares_problems(plan: ReleasePlan) -> list[tuple[str, str]]:
    found = []
    if plan.steps:
        found.append(("steps", "an A/B release has fixed shares and no steps"))
    if any(not 0 <= arm.weight <= BUCKETS for arm in plan.arms) or sum(arm.weight for arm in plan.arms) > BUCKETS:
        found.append(("arms", "the shares must be 0 to 10000 basis points, together at most 10000"))
    if plan.judged and len(plan.arms) > 1:
        found.append(("judged", "an A/B release is judged with one arm beside the stable version only"))
    return found


def _steps_problems(plan: ReleasePlan) -> list[tuple[str, str]]:
    found = []
    weights = [step.weight for step in plan.steps]
    if len(plan.arms) > 1 or any(arm.name != CANDIDATE for arm in plan.arms):
        found.append(("arms", f"a release of this kind has one arm, named {CANDIDATE}"))
    if not weights:
        found.append(("steps", "at least one step is needed"))
    if any(not 0 <= weight <= BUCKETS for weight in weights):
        found.append(("steps", f"a weight must be 0 to {BUCKETS} basis points"))
    if any(later <= earlier for earlier, later in pairwise(weights)):
        found.append(("steps", "every step needs more weight than the one before"))
    if any(step.max_time <= 0 for step in plan.steps):
        found.append(("steps", "max_time_ns must be more than 0"))
    if plan.kind is ReleaseKind.SHADOW and any(weights):
        found.append(("steps", "a shadow release has one step of weight 0"))
    if plan.kind is ReleaseKind.CANARY and plan.judged and not any(0 < weight < BUCKETS for weight in weights):
        found.append(("steps", "a judged canary needs a share between 0 % and 100 %: else there is nothing to compare"))
    if 0 in weights and plan.shadow_share == 0:
        found.append(("shadow_share_bp", "a step that only compares copies needs some"))
    return found


def _arm(reader: Reader) -> Arm:
    arm = Arm(reader.text("name"), reader.integer("version", minimum=1), reader.integer("weight_bp", 0))
    reader.close()
    if not arm.name or len(arm.name) > 64 or not arm.name.isprintable():
        reader.problem("name", "must be 1 to 64 printable characters")
    return arm


def _step(reader: Reader) -> Step:
    step = Step(
        reader.integer("weight_bp"), reader.integer("max_time_ns", minimum=1), reader.boolean("approval", False)
    )
    reader.close()
    return step


def _rule(reader: Reader) -> RouteRule:
    source = reader.choice("source", RuleSource)
    name = reader.text("name")
    rule = RouteRule(
        source,
        name.lower() if source is RuleSource.HEADER else name,
        reader.choice("operator", RuleOperator),
        reader.texts("values"),
        reader.integer("version", minimum=1),
    )
    reader.close()
    if not name:
        reader.problem("name", "is empty")
    if not 1 <= len(rule.values) <= MOST_VALUES:
        reader.problem("values", f"must be 1 to {MOST_VALUES}")
    return rule


def _output(reader: Reader) -> OutputRule:
    rule = OutputRule(
        output=reader.text("output"),
        compare=reader.text("compare", "auto"),
        absolute=reader.number("absolute", OutputRule("").absolute),
        relative=reader.number("relative", OutputRule("").relative),
        top_k=reader.integer("top_k", 1, minimum=1),
    )
    reader.close()
    if rule.compare not in COMPARISONS:
        reader.problem("compare", "must be one of " + ", ".join(COMPARISONS))
    return rule


def _criteria(reader: Reader) -> Criteria:
    default = Criteria()
    rates = {name: _optional(reader, name, getattr(default, name), 0.99) for name in _RATES}
    quantiles = reader.items("latency_quantiles") if reader.has("latency_quantiles") else default.latency_quantiles
    if any(not isinstance(q, float) or not 0.01 <= q <= 0.999 for q in quantiles):
        reader.problem("latency_quantiles", "must be numbers from 0.01 to 0.999")
        quantiles = default.latency_quantiles
    consecutive: int | None = None
    if not reader.null("consecutive_failures"):
        consecutive = reader.integer("consecutive_failures", default.consecutive_failures, minimum=1)
    criteria = Criteria(
        alpha=reader.number("alpha", default.alpha, minimum=1e-9, maximum=0.5),
        tolerance=reader.number("tolerance", default.tolerance, maximum=0.9),
        power=reader.number("power", default.power, minimum=0.5, maximum=1 - 1e-9),
        latency_increase=_optional(reader, "latency_increase", default.latency_increase, 100.0),
        latency_quantiles=tuple(quantiles),
        consecutive_failures=consecutive,
        **rates,
    )
    reader.close()
    return criteria


def _optional(reader: Reader, key: str, default: float | None, maximum: float) -> float | None:
    """Returns the limit at `key`; null leaves the criterion out."""
    if reader.null(key) or (default is None and not reader.has(key)):
        return None
    value = reader.number(key, default, maximum=maximum)
    if not (value >= LEAST_LIMIT and math.isfinite(value)):
        reader.problem(key, f"must be at least {LEAST_LIMIT:f} (null leaves the criterion out)")
    return value
