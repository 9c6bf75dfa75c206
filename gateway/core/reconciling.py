"""What to do next so that what is served becomes what should be served.

Level-triggered and stateless, after TensorFlow Serving's aspired-version policy: it is given the complete desired set
and the complete actual state, and returns at most one action per model. Lost or repeated notices cannot hurt.
Availability-preserving: nothing that serves is drained before everything desired of its model is ready; a version is
unloaded only when nobody holds it any more.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.messages import Instant
from gateway.versions import ModelVersion, VersionState


class ActionKind(enum.Enum):
    """LOAD on one replica, DRAIN (take nothing new), UNLOAD everywhere."""

    LOAD = "load"
    DRAIN = "drain"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Action:
    """One step for one version; `replica` is an index for LOAD and -1 otherwise."""

    kind: ActionKind
    version: ModelVersion
    replica: int = -1


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version as it is: state, the replicas it is ready on, leases held, when a failed load may be retried."""

    version: ModelVersion
    state: VersionState
    ready_on: frozenset[int] = frozenset()
    leases: int = 0
    retry_at: Instant = 0


def next_actions(
    desired: Mapping[str, Sequence[int]],
    actual: Mapping[ModelVersion, VersionStatus],
    connected: Sequence[int],
    now: Instant,
) -> list[Action]:
    """Returns at most one action per model, models in name order.

    `desired` is the full set (a model left out is to be unloaded); `connected` are the indices of the replicas that
    can be spoken to.
    """
    actions = []
    models = sorted({*desired, *(version.model_name for version in actual)})
    for model in models:
        action = _next_for(model, desired.get(model, ()), actual, connected, now)
        if action is not None:
            actions.append(action)
    return actions


def _next_for(
    model: str,
    numbers: Sequence[int],
    actual: Mapping[ModelVersion, VersionStatus],
    connected: Sequence[int],
    now: Instant,
) -> Action | None:
    complete = True
    for number in numbers:
        version = ModelVersion(model, number)
        status = actual.get(version)
        ready_on = status.ready_on if status is not None else frozenset[int]()
        if not ready_on:
            complete = False
        if status is not None and status.retry_at > now:
            continue
        for replica in connected:
            if replica not in ready_on:
                return Action(ActionKind.LOAD, version, replica)
    superfluous = [s for v, s in sorted(actual.items()) if v.model_name == model and v.number not in numbers]
    for status in superfluous:
        if status.state is VersionState.DRAINING:
            if status.leases == 0:
                return Action(ActionKind.UNLOAD, status.version)
        elif status.state is VersionState.FAILED:
            return Action(ActionKind.UNLOAD, status.version)
        elif complete:
            return Action(ActionKind.DRAIN, status.version)
    return None


def backoff(failures: int, first: int, most: int) -> int:
    """Returns how long (ns) to wait after `failures` failures in a row: `first`, doubling, at most `most`."""
    return min(most, first << min(failures - 1, 30)) if failures > 0 else 0
