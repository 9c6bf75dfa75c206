"""Each row: what is desired, what is, the one action that follows, and why."""

from collections.abc import Sequence

import pytest

from gateway.core.reconciling import Action, ActionKind, VersionStatus, backoff, next_actions
from gateway.versions import ModelVersion, VersionState

V1, V2 = ModelVersion("m", 1), ModelVersion("m", 2)
READY, DRAINING, FAILED = VersionState.READY, VersionState.DRAINING, VersionState.FAILED
ON0 = frozenset({0})


def ready(version: ModelVersion, on: frozenset[int] = ON0, leases: int = 0) -> VersionStatus:
    return VersionStatus(version, READY, on, leases)


ROWS = [
    ("nothing desired, nothing there", {}, [], [0], None),
    ("a desired version is loaded", {"m": (1,)}, [], [0], Action(ActionKind.LOAD, V1, 0)),
    ("nothing can be loaded without a connected replica", {"m": (1,)}, [], [], None),
    ("what is ready stays", {"m": (1,)}, [ready(V1)], [0], None),
    ("every connected replica gets it", {"m": (1,)}, [ready(V1)], [0, 1], Action(ActionKind.LOAD, V1, 1)),
    ("the new one is loaded before the old one is touched", {"m": (2,)}, [ready(V1)], [0],
     Action(ActionKind.LOAD, V2, 0)),
    ("the old one is drained once the new one is ready", {"m": (2,)}, [ready(V1), ready(V2)], [0],
     Action(ActionKind.DRAIN, V1)),
    ("a failed new version waits and the old one serves on", {"m": (2,)},
     [ready(V1), VersionStatus(V2, FAILED, retry_at=2_000)], [0], None),
    ("a failed version is tried again when its time has come", {"m": (2,)},
     [ready(V1), VersionStatus(V2, FAILED, retry_at=1_000)], [0], Action(ActionKind.LOAD, V2, 0)),
    ("draining waits for leases", {"m": (2,)}, [VersionStatus(V1, DRAINING, ON0, 3), ready(V2)], [0], None),
    ("without leases it is unloaded", {"m": (2,)}, [VersionStatus(V1, DRAINING, ON0), ready(V2)], [0],
     Action(ActionKind.UNLOAD, V1)),
    ("a model left out is drained", {}, [ready(V1)], [0], Action(ActionKind.DRAIN, V1)),
    ("a failed version that nobody wants any more is cleaned up", {}, [VersionStatus(V1, FAILED)], [0],
     Action(ActionKind.UNLOAD, V1)),
    ("version 10 is not version 1", {"m": (1,)}, [ready(ModelVersion("m", 10)), ready(V1)], [0],
     Action(ActionKind.DRAIN, ModelVersion("m", 10))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "desired", "actual", "connected", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_one_action(
    why: str,
    desired: dict[str, tuple[int, ...]],
    actual: list[VersionStatus],
    connected: Sequence[int],
    expected: Action | None,
) -> None:
    actions = next_actions(desired, {status.version: status for status in actual}, connected, now=1_000)
    assert actions == ([expected] if expected else []), why


def test_models_are_independent_of_each_other() -> None:
    actual = {V1: VersionStatus(V1, FAILED, retry_at=5_000)}
    actions = next_actions({"m": (1,), "other": (4,)}, actual, [0], now=0)
    assert actions == [Action(ActionKind.LOAD, ModelVersion("other", 4), 0)]


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff(n, 10, 100) for n in range(7)] == [0, 10, 20, 40, 80, 100, 100]
    assert backoff(10_000, 10, 100) == 100
