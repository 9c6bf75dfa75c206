"""Each row: what is desired, what is, where the traffic goes, the one action that follows, and why."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.reconciling import (
    Action,
    ActionKind,
    ModelPicture,
    SwapPolicy,
    VersionStatus,
    backoff,
    next_action,
    target,
)
from gateway.versions import ModelVersion, VersionState

V1, V2 = ModelVersion("m", 1), ModelVersion("m", 2)
LOAD, EVICT, DRAIN, UNLOAD = ActionKind.LOAD, ActionKind.EVICT, ActionKind.DRAIN, ActionKind.UNLOAD
NOW = 1_000


def ready(*on: int, **more: Any) -> VersionStatus:
    return VersionStatus(VersionState.READY, frozenset(on or (0,)), **more)


def draining(leases: int = 0, **more: Any) -> VersionStatus:
    return VersionStatus(VersionState.DRAINING, frozenset({0}), leases, **more)


def lost(**more: Any) -> VersionStatus:
    return VersionStatus(VersionState.LOADING, **more)


def failed(*on: int, until: int = 2_000) -> VersionStatus:
    return VersionStatus(VersionState.FAILED, retry_at=dict.fromkeys(on or (0,), until))


def picture(desired: tuple[int, ...], versions: dict[int, VersionStatus], **more: Any) -> ModelPicture:
    rest: dict[str, Any] = {"connected": (0,), "now": NOW, **more}
    return ModelPicture(name="m", desired=desired, versions=versions, **rest)


TWO = {"connected": (0, 1)}
SWAP = {"routed": 1, "last_good": 1}
RESOURCE = {"policy": SwapPolicy.RESOURCE, **SWAP}
ROWS = [
    ("nothing desired, nothing there", (), {}, {}, None, None),
    ("a desired version is loaded", (1,), {}, {}, 1, Action(LOAD, V1, 0)),
    ("nothing can be loaded without a connected replica", (1,), {}, {"connected": ()}, 1, None),
    ("what is ready stays", (1,), {1: ready()}, {}, 1, None),
    ("every connected replica gets it", (1,), {1: ready()}, TWO, 1, Action(LOAD, V1, 1)),
    ("the new one is loaded before the old one is touched", (2,), {1: ready()}, SWAP, 1, Action(LOAD, V2, 0)),
    ("the old one is drained once the new one is ready", (2,), {1: ready(), 2: ready()}, SWAP, 2, Action(DRAIN, V1)),
    ("traffic waits until the new one is ready everywhere", (2,), {1: ready(0, 1), 2: ready(0)}, TWO | SWAP, 1,
     Action(LOAD, V2, 1)),
    ("but not for a replica on which it fails", (2,), {1: ready(0, 1), 2: ready(0, retry_at={1: 2_000})}, TWO | SWAP, 2,
     Action(DRAIN, V1)),
    ("nor for one that is away", (2,), {1: ready(0, 1), 2: ready(0)}, SWAP, 2, Action(DRAIN, V1)),
    ("a failed new version waits and the old one serves on", (2,), {1: ready(), 2: failed()}, SWAP, 1, None),
    ("a failed version is tried again when its time has come", (2,), {1: ready(), 2: failed(until=NOW)}, SWAP, 1,
     Action(LOAD, V2, 0)),
    ("what failed on one replica is loaded on the other", (2,), {1: ready(0, 1), 2: failed(0)}, TWO | SWAP, 1,
     Action(LOAD, V2, 1)),
    ("draining waits for leases", (2,), {1: draining(3), 2: ready()}, {"routed": 2}, 2, None),
    ("but not for ever", (2,), {1: draining(3, overdue=True), 2: ready()}, {"routed": 2}, 2, Action(UNLOAD, V1)),
    ("nor when nothing can answer any more", (2,), {1: VersionStatus(VersionState.DRAINING, leases=3), 2: ready()},
     {"routed": 2}, 2, Action(UNLOAD, V1)),
    ("without leases it is unloaded", (2,), {1: draining(), 2: ready()}, {"routed": 2}, 2, Action(UNLOAD, V1)),
    ("a version that is wanted again while it drains opens anew", (1,), {1: draining(3), 2: ready()},
     {"routed": 2, "last_good": 2}, 2, Action(LOAD, V1, 0)),
    ("a withdrawn model is drained", (), {1: ready()}, SWAP, None, Action(DRAIN, V1)),
    ("a failed version that nobody wants any more is cleaned up", (), {1: failed()}, {}, None, Action(UNLOAD, V1)),
    ("version 10 is not version 1", (1,), {10: ready(), 1: ready()}, {"routed": 1}, 1,
     Action(DRAIN, ModelVersion("m", 10))),
    ("what also has to stay loaded is loaded", (2, 1), {2: ready()}, {"routed": 2}, 2, Action(LOAD, V1, 0)),
    ("and its failure does not keep an old one alive", (2, 3), {1: ready(), 2: ready(), 3: failed()}, SWAP, 2,
     Action(DRAIN, V1)),
    ("after a restart the version that served last comes first", (2,), {}, {"last_good": 1}, 2, Action(LOAD, V1, 0)),
    ("and serves until the new one does", (2,), {1: ready()}, {"last_good": 1, "routed": 2}, 1, Action(LOAD, V2, 0)),
    ("a lost replica gets back what served, not what failed", (2,), {1: lost(), 2: failed()}, SWAP, 2,
     Action(LOAD, V1, 0)),
    ("what served last is let go when the new one is ready", (2,), {1: lost(), 2: ready()}, SWAP, 2,
     Action(UNLOAD, V1)),
    ("resource: one replica is cleared while the other serves", (2,), {1: ready(0, 1)}, TWO | RESOURCE, 1,
     Action(EVICT, V1, 0, 2)),
    ("resource: the new one takes the room", (2,), {1: ready(1)}, TWO | RESOURCE, 1, Action(LOAD, V2, 0)),
    ("resource: and the traffic, so that the other can follow", (2,), {1: ready(1), 2: ready(0)}, TWO | RESOURCE, 2,
     Action(DRAIN, V1, incoming=2)),
    ("resource: with one replica the old one drains first", (2,), {1: ready()}, RESOURCE, 1,
     Action(DRAIN, V1, incoming=2)),
    ("resource: then waits for its callers", (2,), {1: draining(2)}, RESOURCE, 2, None),
    ("resource: then goes", (2,), {1: draining()}, RESOURCE, 2, Action(UNLOAD, V1)),
    ("resource: then the new one comes", (2,), {}, RESOURCE, 2, Action(LOAD, V2, 0)),
    ("resource: a new one that fails gives the place back", (2,), {2: failed()}, RESOURCE, 2, Action(LOAD, V1, 0)),
    ("resource: what serves in the meantime is not moved for a third one", (2, 3), {1: ready(), 2: failed()},
     RESOURCE, 1, None),
    ("resource: and never gets it a second time", (2,), {1: ready(), 2: failed(until=NOW)}, RESOURCE, 1, None),
]  # fmt: skip


@pytest.mark.parametrize(("why", "desired", "versions", "more", "to", "action"), ROWS, ids=[row[0] for row in ROWS])
def test_one_action(
    why: str,
    desired: tuple[int, ...],
    versions: dict[int, VersionStatus],
    more: dict[str, Any],
    to: int | None,
    action: Action | None,
) -> None:
    seen = picture(desired, versions, **more)
    assert target(seen) == to, why
    assert next_action(seen) == action, why


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff(n, 10, 100) for n in range(7)] == [0, 10, 20, 40, 80, 100, 100]
    assert backoff(10_000, 10, 100) == 100
