"""Route nouns: which of a model's versions answers a request that names none, and why.

A route is data: rules that are tried in order, then a split over versions by bucket. `core/routing` decides with it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

BUCKETS = 10_000
"""Weights are basis points: one bucket each."""


class RuleOperator(enum.Enum):
    """How a rule compares what the request carries with its values."""

    EQUALS = "equals"
    PREFIX = "prefix"
    IN = "in"


class RuleSource(enum.Enum):
    """Where a rule finds what it compares: a header (gRPC: metadata) or an OIP request parameter."""

    HEADER = "header"
    PARAMETER = "parameter"


@dataclass(frozen=True, slots=True)
class RouteRule:
    """Sends what matches to `version` before the split: internal testers first. `name` of a header is lower case."""

    source: RuleSource
    name: str
    operator: RuleOperator
    values: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class StickyKey:
    """Where a request's sticky key is found. The parameter is asked only if the header is missing or not named."""

    header: str = "x-sluice-sticky-key"
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests that name no version go.

    `targets` are (version number, weight in basis points), summing to 10,000, in the order in which they own buckets:
    whose weight grows stands first and the stable version last, so that a higher weight only adds keys. `arms` are the
    names of the targets, in the same order; empty where no release is in progress.
    """

    model_name: str
    targets: tuple[tuple[int, int], ...]
    salt: str = ""
    rules: tuple[RouteRule, ...] = ()
    sticky: StickyKey = StickyKey()
    arms: tuple[str, ...] = ()
    release_id: str = ""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The whole routing truth at one generation; replaced by one assignment, never changed."""

    generation: int
    routes: Mapping[str, Route]


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Which version answers, and why.

    `rule` is the index of the rule that matched, -1 if none did; `bucket` is -1 where no split was needed; `arm` is the
    target's name, empty where no release is in progress.
    """

    version: int
    rule: int = -1
    bucket: int = -1
    arm: str = ""
