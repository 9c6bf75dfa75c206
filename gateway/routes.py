"""Route nouns: which of a model's versions answers a request that names none, and why.

A route is data: rules that are tried in order, then a split over versions by bucket. `core/routing` decides with it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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
    """Sends what matches to `version` before the split: internal testers first. `name` of a header is lower case.

    `wire_name` is that name as it stands in requests.
    """

    source: RuleSource
    name: str
    operator: RuleOperator
    values: tuple[str, ...]
    version: int
    wire_name: bytes = field(init=False, repr=False, compare=False, default=b"")

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire_name", self.name.encode("latin-1", "replace"))


@dataclass(frozen=True, slots=True)
class StickyKey:
    """Where a request's sticky key is found. The parameter is asked only if the header is missing or not named."""

    header: str = "x-sluice-sticky-key"
    parameter: str = ""


DEFAULT_STICKY = StickyKey()
"""Routes without a wish of their own have this very object, which is quicker to recognise than to compare."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests that name no version go.

    `targets` are (version number, weight in basis points), summing to 10,000, in the order in which they own buckets:
    whose weight grows stands first and the stable version last, so that a higher weight only adds keys. The stable
    version may also hold the place of an arm that is not ready. `arms` are the names of the targets, in the same order;
    empty where no release is in progress. `settling`: an arm had its share in the gateway's last life and is not back
    yet, so that the gateway is not ready.
    """

    model_name: str
    targets: tuple[tuple[int, int], ...]
    salt: str = ""
    rules: tuple[RouteRule, ...] = ()
    sticky: StickyKey = DEFAULT_STICKY
    arms: tuple[str, ...] = ()
    release_id: str = ""
    settling: bool = False
    only: RouteDecision | None = field(init=False, repr=False, compare=False, default=None)
    """The decision about every request, where there is one only."""

    def __post_init__(self) -> None:
        if len(self.targets) == 1 and not self.rules:
            arm = self.arms[0] if self.arms else ""
            object.__setattr__(self, "only", RouteDecision(self.targets[0][0], arm=arm, release_id=self.release_id))

    @property
    def stable(self) -> int:
        """The version that gets everything that no other one gets."""
        return self.targets[-1][0]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The whole routing truth at one generation; replaced by one assignment, never changed.

    `unreadable` are models that exist and of which it cannot be told what should be served. `complete` is False as long
    as nothing is known of any model, so that none can be said not to exist.
    """

    generation: int
    routes: Mapping[str, Route]
    unreadable: frozenset[str] = frozenset()
    complete: bool = True


class RouteDecision(NamedTuple):
    """Which version answers, and why. (A NamedTuple: one is made for every request of a model with a release.)

    `rule` is the index of the rule that matched, -1 if none did; `bucket` is -1 where no split was needed; `arm` is the
    target's name and `release_id` the release it belongs to, empty where none is in progress.
    """

    version: int
    rule: int = -1
    bucket: int = -1
    arm: str = ""
    release_id: str = ""
