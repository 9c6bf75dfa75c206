"""What people write to start a release, as a plan: "shadow,1%,5%,100%", "header x-tester equals yes -> 3", "24h".

The command line and the REST twin share it: options by name, text or JSON values. Invariant: every problem is reported
at once, each with the option it is in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gateway.releases import (
    CANDIDATE,
    Arm,
    Criteria,
    OutputRule,
    ReleaseKind,
    ReleasePlan,
    Step,
    SupersedePolicy,
)
from gateway.routes import BUCKETS, RouteRule, RuleOperator, RuleSource, StickyKey

DEFAULT_STEPS = "shadow,1%,5%,25%,50%,100%"
DEFAULT_MAX_STEP_TIME, DEFAULT_WATCH = "24h", "1h"
APPROVALS = ("none", "each", "last")
_SECOND = 1_000_000_000
_UNITS = {"ms": _SECOND // 1000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86_400 * _SECOND}
_RULE = re.compile(r"(header|parameter)\s+(\S+)\s+(equals|prefix|in)\s+(.+?)\s*->\s*(\S+)")
_RATES = ("error_rate", "nan_rate", "latency_increase", "disagreement_rate", "score_shift", "outcome_loss")
_T = TypeVar("_T")

OPTIONS: dict[str, type] = {
    "candidate": int, "kind": str, "steps": str, "arms": list, "rules": list, "approve": str, "max_step_time": str,
    "shadow_share": str, "sticky_header": str, "sticky_parameter": str, "compare": list, "segment_header": str,
    "capture_inputs": bool, "judged": bool, "retry": bool, "on_newer": str, "watch_after": str, "salt": str,
    "alpha": float, "power": float, "tolerance": float, "latency_quantiles": str, "consecutive_failures": str,
    **dict.fromkeys(_RATES, str),
}  # fmt: skip
"""Every option and the JSON type of its value."""


class OptionProblems(ValueError):
    """What was written cannot be a release; `problems` lists every reason as "option: what is wrong"."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def plan_of(model: str, options: Mapping[str, Any], *, actor: str, reason: str) -> ReleasePlan:
    """Returns the plan that the options describe; its id, stable version and time are set when it starts.

    Raises:
        OptionProblems: with every problem found.
    """
    read = _Options(options)
    kind = read.choice("kind", ReleaseKind, ReleaseKind.AB if options.get("arms") else ReleaseKind.CANARY)
    arms = read.each("arms", arm_of)
    if not arms:
        arms = (Arm(CANDIDATE, read.given("candidate", int, 0)),)
        if not arms[0].version:
            read.problems.append("candidate: say which version is tried")
    elif options.get("candidate"):
        read.problems.append("candidate: an A/B release names its versions in its arms")
    numbers = {CANDIDATE: arms[0].version, **{arm.name: arm.version for arm in arms}}
    default = Criteria()
    sticky = StickyKey()
    plan = ReleasePlan(
        id="",
        model_name=model,
        kind=kind,
        stable=0,
        arms=arms,
        steps=_steps(read, kind),
        salt=read.given("salt", str, ""),
        rules=read.each("rules", lambda text: rule_of(text, numbers)),
        sticky=StickyKey(
            read.given("sticky_header", str, sticky.header).lower(),
            read.given("sticky_parameter", str, sticky.parameter),
        ),
        criteria=_criteria(read, default),
        outputs=read.each("compare", output_of),
        segment_header=read.given("segment_header", str, "").lower(),
        shadow_share=read.parsed("shadow_share", basis_points, BUCKETS if kind is not ReleaseKind.AB else 0),
        capture_inputs=read.given("capture_inputs", bool, False),
        judged=read.given("judged", bool, kind is not ReleaseKind.AB),
        retry=read.given("retry", bool, False),
        on_newer=read.choice("on_newer", SupersedePolicy, SupersedePolicy.REFUSE),
        watch_after=read.parsed("watch_after", duration, duration(DEFAULT_WATCH)),
        actor=actor,
        reason=reason,
    )
    read.finish()
    return plan


def _steps(read: _Options, kind: ReleaseKind) -> tuple[Step, ...]:
    if kind is ReleaseKind.AB:
        if read.options.get("steps"):
            read.problems.append("steps: an A/B release has fixed shares and no steps")
        return ()
    most = read.parsed("max_step_time", duration, duration(DEFAULT_MAX_STEP_TIME))
    approve = read.given("approve", str, "none")
    if approve not in APPROVALS:
        read.problems.append(f"approve: must be one of {', '.join(APPROVALS)}")
    default = DEFAULT_STEPS if kind is ReleaseKind.CANARY else "shadow"
    weights = read.parsed("steps", weights_of, weights_of(default))
    steps = [Step(weight, most, approve == "each") for weight in weights]
    if steps and approve == "last":
        steps[-1] = replace(steps[-1], approval=True)
    return tuple(steps)


def _criteria(read: _Options, default: Criteria) -> Criteria:
    limits: dict[str, Any] = {name: read.parsed(name, rate, getattr(default, name)) for name in _RATES}
    return Criteria(
        alpha=read.given("alpha", float, default.alpha),
        power=read.given("power", float, default.power),
        tolerance=read.given("tolerance", float, default.tolerance),
        latency_quantiles=read.parsed("latency_quantiles", quantiles, default.latency_quantiles),
        consecutive_failures=read.parsed("consecutive_failures", count, default.consecutive_failures),
        **limits,
    )


# ------------------------------------------------------------------ the small languages


def weights_of(text: str) -> tuple[int, ...]:
    """Returns the weights (basis points) of "shadow,1%,5%,100%"."""
    return tuple(0 if part.strip() == "shadow" else basis_points(part) for part in text.split(","))


def basis_points(text: str) -> int:
    """Returns "12.5%" in basis points, which it must be a whole number of."""
    try:
        value = float(text.strip().removesuffix("%")) * 100
    except ValueError:
        value = -1.0
    if not text.strip().endswith("%") or not 0 <= value <= BUCKETS or abs(value - round(value)) > 1e-6:
        raise ValueError(f"{text.strip()!r} is not a share (0% to 100%, in steps of 0.01%)")
    return round(value)


def rate(text: str) -> float | None:
    """Returns "2%" or "0.02" as a number, None for "off"."""
    given = text.strip().lower()
    if given == "off":
        return None
    try:
        value = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 100:
        raise ValueError(f"{text!r} is not a rate (such as 2% or 0.02; off leaves the criterion out)")
    return value


def count(text: str) -> int | None:
    """Returns a number of at least 1, None for "off"."""
    if text.strip().lower() == "off":
        return None
    if not text.isdecimal() or not text.isascii() or not 1 <= len(text) < 7 or int(text) < 1:
        raise ValueError(f"{text!r} is not a count (1, 2, 3 …; off leaves it out)")
    return int(text)


def quantiles(text: str) -> tuple[float, ...]:
    """Returns "50,90" as (0.5, 0.9)."""
    try:
        found = tuple(round(float(part) / 100, 6) for part in text.split(","))
    except ValueError:
        found = (-1.0,)
    if len(set(found)) != len(found) or any(not 0.01 <= q <= 0.999 for q in found):
        raise ValueError(f"{text!r} is not a list of percentiles (such as 50,90)")
    return found


def duration(text: str) -> int:
    """Returns "90s", "30m", "24h" or "7d" in nanoseconds."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*(ms|s|m|h|d)|(0)", text.strip(), re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is not a time (such as 90s, 30m, 24h, 7d)")
    return 0 if found[3] else round(float(found[1]) * _UNITS[found[2]])


def arm_of(text: str) -> Arm:
    """Returns the arm of "NAME=VERSION:SHARE"."""
    found = re.fullmatch(r"([^=\s]{1,64})=(\d{1,10}):(\S+)", text.strip(), re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is not NAME=VERSION:SHARE (such as b=3:20%)")
    return Arm(found[1], int(found[2]), basis_points(found[3]))


def rule_of(text: str, numbers: Mapping[str, int]) -> RouteRule:
    """Returns the rule of "header NAME equals|prefix|in VALUE[,VALUE…] -> VERSION|ARM"."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not 'header|parameter NAME equals|prefix|in VALUE -> VERSION'")
    source, operator = RuleSource(found[1]), RuleOperator(found[3])
    values = tuple(part.strip() for part in found[4].split(",")) if operator is RuleOperator.IN else (found[4],)
    number = numbers.get(found[5], int(found[5]) if found[5].isdecimal() and found[5].isascii() else 0)
    if not number:
        raise ValueError(f"{found[5]!r} in {text!r} is neither a version nor an arm")
    name = found[2].lower() if source is RuleSource.HEADER else found[2]
    return RouteRule(source, name, operator, values, number)


def output_of(text: str) -> OutputRule:
    """Returns the rule of "OUTPUT=label[:K]|close[:ABS[:REL]]|cosine[:MIN]|bytes|auto"."""
    output, _, how = text.strip().partition("=")
    kind, *given = how.split(":")
    rule = OutputRule(output, kind)
    try:
        numbers = [float(value) for value in given]
        tolerances: dict[str, Any] = dict(zip(("absolute", "relative"), numbers, strict=False))
        if not output or kind not in ("label", "close", "cosine", "bytes", "auto") or any(n < 0 for n in numbers):
            raise ValueError
        if kind == "label" and len(numbers) <= 1 and all(n == int(n) >= 1 for n in numbers):
            return replace(rule, top_k=int(numbers[0]) if numbers else 1)
        if kind == "close" and len(numbers) <= 2:
            return replace(rule, **tolerances)
        if kind == "cosine" and len(numbers) <= 1 and all(n <= 1 for n in numbers):
            return replace(rule, absolute=1.0 - numbers[0] if numbers else rule.absolute)
        if not numbers:
            return rule
        raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not OUTPUT=label[:K], close[:ABS[:REL]], cosine[:MIN], bytes or auto") from None


class _Options:
    """Reads options by name and collects what is wrong with them."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.problems = [f"{key}: there is no such option" for key in options.keys() - OPTIONS.keys()]

    def given(self, key: str, kind: type[_T], default: _T) -> _T:
        """Returns the value as it stands, checked to be of the type."""
        value = self.options.get(key)
        if value is None:
            return default
        fits = isinstance(value, int | float if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            self.problems.append(f"{key}: must be of type {kind.__name__}")
            return default
        return value  # type: ignore[no-any-return]

    def parsed(self, key: str, parse: Callable[[str], _T], default: _T) -> _T:
        value = self.options.get(key)
        if value is None:
            return default
        try:
            return parse(str(value))
        except ValueError as error:
            self.problems.append(f"{key}: {error}")
            return default

    def each(self, key: str, parse: Callable[[str], _T]) -> tuple[_T, ...]:
        found = []
        for value in self.given(key, list, []):
            try:
                found.append(parse(str(value)))
            except ValueError as error:
                self.problems.append(f"{key}: {error}")
        return tuple(found)

    def choice(self, key: str, kind: type[_T], default: _T) -> _T:
        value = self.options.get(key)
        if value is None:
            return default
        try:
            return kind(value)  # type: ignore[call-arg]
        except ValueError:
            members = ", ".join(member.value for member in kind)  # type: ignore[attr-defined]
            self.problems.append(f"{key}: must be one of {members}")
            return default

    def finish(self) -> None:
        if self.problems:
            raise OptionProblems(sorted(self.problems))
