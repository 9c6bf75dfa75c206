"""Releases of a registry in a bucket, on real servers: one of many writers decides, and the record is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from gateway.judgements import DecisionKind
from gateway.registry.object_store import ObjectStore
from gateway.registry.pointing import pointer_of
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.release_commands import rollback_release
from gateway.registry.release_history import bundles_of, release_of
from gateway.registry.release_starting import start_release
from gateway.registry.releasing import advance
from gateway.releases import ReleaseStatus
from tests.support.registry import prepared
from tests.support.release_store import NOW, WHO, decided
from tests.support.releases import plan


def test_of_many_writers_one_decides(
    store: ObjectStore, open_store: Callable[..., ObjectStore], tmp_path: Path
) -> None:
    source = prepared(tmp_path / "prepared")
    publish_version(store, source, "m", actor="ann", options=PublishOptions(serve=True))
    publish_version(store, source, "m", actor="ann")
    begun, _ = start_release(store, plan(id="", salt=""), now=NOW)
    release = release_of(store, begun.id)
    won: list[bool] = []

    def write(number: int) -> None:
        kind = DecisionKind.ADVANCE if number % 2 else DecisionKind.PAUSE
        status = ReleaseStatus.RUNNING if number % 2 else ReleaseStatus.PAUSED
        won.append(advance(open_store(), release, decided(release, kind, status=status), actor=f"gw{number}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]
    rollback_release(store, begun.id, **WHO)
    pointer = pointer_of(store, "m")
    assert pointer is not None
    assert (pointer.stable, pointer.release, [item.version for item in pointer.rejected]) == (1, None, [2])
    assert [bundle.decision.kind for bundle in bundles_of(store, begun.id)][::2] == [
        DecisionKind.START,
        DecisionKind.ROLLBACK,
    ]
    assert release_of(store, begun.id).progress.status is ReleaseStatus.ROLLED_BACK
