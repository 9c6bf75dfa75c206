"""What to do next so that what is served becomes what should be served.

Level-triggered and stateless, after TensorFlow Serving's aspired-version policy: it is given one model's complete
picture, desired and actual, and says which version gets the traffic (`target`) and the one action that follows
(`next_action`). Lost or repeated notices cannot hurt.

Invariants of AVAILABILITY, the default: what gets the traffic is never drained before another version can take over;
the version that served last stays wanted until the new one does; a version is unloaded only when nobody holds it any
more or its time to drain is over. RESOURCE gives up the first: it makes room on one replica before it loads there.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from gateway.messages import Instant
from gateway.versions import ModelVersion, VersionState


class SwapPolicy(enum.Enum):
    """AVAILABILITY: load the new, then drop the old. RESOURCE: where memory cannot hold both, the other way round."""

    AVAILABILITY = "availability"
    RESOURCE = "resource"


class ActionKind(enum.Enum):
    """LOAD on one replica, EVICT from one replica, DRAIN (take nothing new), UNLOAD everywhere."""

    LOAD = "load"
    EVICT = "evict"
    DRAIN = "drain"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Action:
    """One step for one version.

    `replica` is an index for LOAD and EVICT, otherwise -1. `incoming` is the version for which room is made: whoever
    performs the action first makes sure that it is fit to be loaded.
    """

    kind: ActionKind
    version: ModelVersion
    replica: int = -1
    incoming: int | None = None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version as it is.

    `ready_on` are the replicas that have it loaded and proved; `leases` the requests that hold it; `retry_at` says for
    each replica on which loading failed when it may be tried again (for failures that were not the version's fault only
    until then); `overdue` that its time to drain is over.
    """

    state: VersionState
    ready_on: frozenset[int] = frozenset()
    leases: int = 0
    retry_at: Mapping[int, Instant] = field(default_factory=dict)
    overdue: bool = False

    @property
    def ready(self) -> bool:
        return self.state is VersionState.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPicture:
    """Everything about one model at one instant.

    `desired` is the complete set of versions to serve, the stable one first; empty withdraws the model. `last_good` is
    the version that was the last to get the traffic, also in an earlier life of this gateway; `routed` the one that
    gets it now. `connected` are the replicas that can be spoken to. `barred` versions may be asked for by number, but
    would break callers of the one that served last: they never get traffic that names no version. `trial` versions get
    no more than the share that a release gives them, whatever else is not ready.
    """

    name: str
    desired: tuple[int, ...]
    versions: Mapping[int, VersionStatus]
    connected: tuple[int, ...]
    now: Instant
    last_good: int | None = None
    routed: int | None = None
    policy: SwapPolicy = SwapPolicy.AVAILABILITY
    barred: frozenset[int] = frozenset()
    trial: frozenset[int] = frozenset()


def target(picture: ModelPicture) -> int | None:
    """Returns the version that requests go to which name none; None if the model is withdrawn.

    The stable version as soon as it is ready wherever it can be; until then whatever serves goes on serving. When
    nothing is ready it is the stable version, whose state callers then hear.
    """
    if not picture.desired:
        return None
    stable = picture.desired[0]
    ready = {number for number, status in picture.versions.items() if status.ready}
    ready -= picture.barred | picture.trial
    if stable in ready and (picture.routed not in ready or _settled(picture, picture.versions[stable])):
        return stable
    candidates = (picture.routed, *picture.desired, picture.last_good, *sorted(ready, reverse=True))
    nobody = picture.last_good if stable in picture.barred and picture.last_good is not None else stable
    return next((number for number in candidates if number in ready), nobody)


def takers(picture: ModelPicture, sharing: Container[int]) -> frozenset[int]:
    """Returns the versions on trial that may get their share: ready wherever they can be.

    Those that have it already (`sharing`) keep it as long as they are ready anywhere.
    """
    return frozenset(
        number
        for number in picture.trial - picture.barred
        if (status := picture.versions.get(number)) is not None
        and status.ready
        and (number in sharing or _settled(picture, status))
    )


def next_action(picture: ModelPicture) -> Action | None:
    """Returns the one thing to do now for this model, or None when there is nothing or only waiting."""
    wanted = _wanted(picture)
    for number in wanted:
        status = picture.versions.get(number)
        for replica in picture.connected:
            if status is not None and status.ready and replica in status.ready_on:
                continue
            if status is not None and status.retry_at.get(replica, 0) > picture.now:
                continue
            in_the_way = _in_the_way(picture, replica)
            if in_the_way is None:
                return Action(ActionKind.LOAD, ModelVersion(picture.name, number), replica)
            if in_the_way not in wanted and (status is None or not status.retry_at):
                return _make_room(picture, in_the_way, replica, number)
            # What failed once must not cost the version that serves its place a second time, and what serves in the
            # meantime keeps its place.
    return _let_go(picture, {*wanted, target(picture)})


def _settled(picture: ModelPicture, status: VersionStatus) -> bool:
    """Whether a version that is ready somewhere is ready enough to take all traffic."""
    if picture.policy is SwapPolicy.RESOURCE:
        return True
    now, retry_at = picture.now, status.retry_at
    return all(r in status.ready_on or retry_at.get(r, 0) > now for r in picture.connected)


def _wanted(picture: ModelPicture) -> tuple[int, ...]:
    """Returns the versions that should be loaded, in the order in which they are needed.

    Until the stable version is ready, the one that served last is wanted too, and first: it answers in the meantime,
    after a restart and after the loss of a replica as well.
    """
    desired, last = picture.desired, picture.last_good
    if not desired or last is None or last in desired:
        return desired
    stable = picture.versions.get(desired[0])
    if desired[0] in picture.barred:
        return (last, *desired)
    if stable is not None and stable.ready:
        return desired
    if picture.policy is SwapPolicy.RESOURCE and (stable is None or not stable.retry_at):
        return desired
    return (last, *desired)


def _in_the_way(picture: ModelPicture, replica: int) -> int | None:
    """Returns the version that has to go from `replica` before another can be loaded there."""
    if picture.policy is SwapPolicy.AVAILABILITY:
        return None
    occupants = (n for n, s in sorted(picture.versions.items()) if replica in s.ready_on and n not in picture.desired)
    return next(occupants, None)


def _make_room(picture: ModelPicture, number: int, replica: int, incoming: int) -> Action | None:
    status, version = picture.versions[number], ModelVersion(picture.name, number)
    if status.state is VersionState.DRAINING:
        return Action(ActionKind.UNLOAD, version) if status.leases == 0 or status.overdue else None
    if status.ready and any(other in status.ready_on for other in picture.connected if other != replica):
        return Action(ActionKind.EVICT, version, replica, incoming)
    return Action(ActionKind.DRAIN, version, incoming=incoming)


def _let_go(picture: ModelPicture, keep: set[int | None]) -> Action | None:
    for number, status in sorted(picture.versions.items()):
        if number in keep:
            continue
        version = ModelVersion(picture.name, number)
        if status.state is VersionState.DRAINING:
            if status.leases == 0 or status.overdue or not status.ready_on:
                return Action(ActionKind.UNLOAD, version)
        elif status.ready:
            return Action(ActionKind.DRAIN, version)
        else:
            return Action(ActionKind.UNLOAD, version)
    return None


def backoff(failures: int, first: int, most: int) -> int:
    """Returns how long (ns) to wait after `failures` failures in a row: `first`, doubling, at most `most`."""
    return min(most, first << min(failures - 1, 30)) if failures > 0 else 0
