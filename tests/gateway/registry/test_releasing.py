"""Releases in the registry: what may follow what, two writers, and a writer that dies at any step."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.judgements import DecisionKind
from gateway.registry import journal
from gateway.registry.bundle_document import parse_bundle
from gateway.registry.folder_store import FolderStore
from gateway.registry.release_commands import (
    pause_release,
    promote_release,
    resume_release,
    rollback_release,
)
from gateway.registry.release_history import bundles_of
from gateway.registry.releasing import advance, mend_journal
from gateway.registry.switching import NotInRegistry, PublishError, serve_version
from gateway.releases import Arm, ReleaseKind, ReleaseStatus
from gateway.versions import ModelVersion
from tests.support.release_store import NOW, WHO, Died, actions, decided, pointer_now, start, store_with_versions
from tests.support.releases import HOUR, plan, steps


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return store_with_versions(tmp_path)


def test_a_start_is_in_the_pointer_the_journal_and_a_bundle(store: FolderStore) -> None:
    release = start(store)
    assert (release.plan.id, release.plan.salt, release.plan.stable) == ("m-r1", "m-r1", 1)
    pointer = pointer_now(store)
    assert pointer.desired == (1, 2)
    (entry,) = [entry for entry in journal.entries(store, "m") if "release" in entry]
    assert (entry["action"], entry["actor"], entry["version"], entry["release"]) == ("release start", "ann", 2, "m-r1")
    stored = store.read(entry["evidence"])
    assert stored is not None
    bundle = parse_bundle(stored.content)
    assert set(bundle.digests) == {1, 2}
    assert release.progress.evidence == entry["sha256"]


def test_a_whole_release_ends_with_the_candidate_as_the_stable_version(store: FolderStore) -> None:
    release = start(store, plan(id="", steps=steps(100, 10_000)))
    assert advance(store, release, decided(release, DecisionKind.ADVANCE, step=1), actor="gw")
    release = pointer_now(store).release or release
    promoted = decided(release, DecisionKind.PROMOTE, status=ReleaseStatus.PROMOTED)
    assert advance(store, release, promoted, actor="gw")
    pointer = pointer_now(store)
    assert (pointer.stable, pointer.release, pointer.desired) == (2, None, (2,))
    assert actions(store) == ["release start", "release advance", "release promote"]


def test_bundles_of_a_release_form_a_chain(store: FolderStore) -> None:
    release = start(store)
    for _ in range(3):
        advance(store, release, decided(release, DecisionKind.ADVANCE, step=release.progress.step + 1), actor="gw")
        release = pointer_now(store).release or release
    entries = [entry for entry in journal.entries(store, "m") if "release" in entry]
    for earlier, later in pairwise(entries):
        stored = store.read(later["evidence"])
        assert stored is not None
        assert parse_bundle(stored.content).release.progress.evidence == earlier["sha256"]


def test_what_was_decided_on_an_older_state_changes_nothing(store: FolderStore) -> None:
    release = start(store)
    assert advance(store, release, decided(release, DecisionKind.ADVANCE, step=1), actor="one")
    before = pointer_now(store)
    assert not advance(
        store, release, decided(release, DecisionKind.ROLLBACK, status=ReleaseStatus.ROLLED_BACK), actor="b"
    )
    assert pointer_now(store) == before
    assert actions(store) == ["release start", "release advance"]


def test_of_two_writers_one_wins(store: FolderStore) -> None:
    release = start(store)
    results: list[bool] = []

    def write(actor: str, kind: DecisionKind, status: ReleaseStatus) -> None:
        results.append(advance(FolderStore(store.root), release, decided(release, kind, status=status), actor=actor))

    threads = [
        threading.Thread(target=write, args=(f"gw{i}", kind, status))
        for i, (kind, status) in enumerate(
            [(DecisionKind.ADVANCE, ReleaseStatus.RUNNING), (DecisionKind.ROLLBACK, ReleaseStatus.ROLLED_BACK)] * 4
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert len(actions(store)) == 2


def test_a_rolled_back_version_is_never_a_baseline_or_a_candidate_again(store: FolderStore) -> None:
    release = start(store)
    rollback_release(store, release.plan.id, **WHO)
    pointer = pointer_now(store)
    assert (pointer.stable, pointer.release, pointer.desired) == (1, None, (1,))
    assert [(item.version, item.release) for item in pointer.rejected] == [(2, "m-r1")]
    with pytest.raises(PublishError, match=r"m/2 was rolled back by m-r1 \(because\)"):
        start(store)
    with pytest.raises(PublishError, match="was rolled back"):
        serve_version(store, ModelVersion("m", 2), actor="ann")
    assert start(store, plan(id="", retry=True)).plan.id == "m-r2"


def test_late_outcomes_take_back_a_promotion(store: FolderStore) -> None:
    release = start(store, plan(id="", watch_after=HOUR))
    promote_release(store, release.plan.id, full=True, **WHO)
    watched = pointer_now(store)
    assert (watched.stable, watched.desired) == (2, (2, 1))
    assert watched.release is not None
    back = decided(watched.release, DecisionKind.ROLLBACK, status=ReleaseStatus.ROLLED_BACK)
    assert advance(store, watched.release, back, actor="gw")
    assert (pointer_now(store).stable, [item.version for item in pointer_now(store).rejected]) == (1, [2])


def test_a_step_by_hand_a_pause_and_a_resume(store: FolderStore) -> None:
    release_id = start(store).plan.id
    assert promote_release(store, release_id, **WHO).progress.step == 1
    assert pause_release(store, release_id, **WHO).progress.status is ReleaseStatus.PAUSED
    with pytest.raises(PublishError, match="is paused, not running"):
        pause_release(store, release_id, **WHO)
    resumed = resume_release(store, release_id, **(WHO | {"now": NOW + HOUR}))
    assert (resumed.progress.status, resumed.progress.step_started_at) == (ReleaseStatus.RUNNING, NOW + HOUR)
    assert actions(store) == ["release start", "release advance", "release pause", "release resume"]


def test_the_winner_of_an_ab_release_becomes_stable_and_nobody_is_rejected(store: FolderStore) -> None:
    of = plan(id="", kind=ReleaseKind.AB, arms=(Arm("b", 2, 3000), Arm("c", 3, 3000)), steps=(), judged=False)
    release = start(store, of)
    with pytest.raises(PublishError, match="which arm of m-r1 has won: b, c"):
        promote_release(store, release.plan.id, **WHO)
    promote_release(store, release.plan.id, arm="c", **WHO)
    assert (pointer_now(store).stable, pointer_now(store).rejected) == (3, ())
    again = start(store, replace(of, arms=(Arm("b", 2, 3000), Arm("d", 4, 3000))))
    rollback_release(store, again.plan.id, **WHO)
    assert (pointer_now(store).stable, pointer_now(store).rejected) == (3, ())


@pytest.mark.parametrize("dies_at", ["bundled", "pointed"])
def test_a_writer_that_dies_leaves_the_old_state_or_the_new_one(store: FolderStore, dies_at: str) -> None:
    def step(name: str) -> None:
        if name == dies_at:
            raise Died

    release = start(store)
    bundle = decided(release, DecisionKind.ADVANCE, step=1)
    with pytest.raises(Died):
        advance(store, release, bundle, actor="gw", step=step)
    now = pointer_now(store).release
    assert now is not None
    assert now.progress.step == (1 if dies_at == "pointed" else 0)
    assert advance(store, release, bundle, actor="gw") == (dies_at == "bundled")
    assert len(bundles_of(store, "m-r1")) == 2
    assert mend_journal(store, "m") == (1 if dies_at == "pointed" else 0)
    assert mend_journal(store, "m") == 0
    assert actions(store) == ["release start", "release advance"]


@pytest.mark.parametrize("release_id", ["m-r9", "x-r1", "m", "", "-r1", "m-r", "../m-r1", "m-rx"])
def test_an_unknown_id_is_no_release(store: FolderStore, release_id: str) -> None:
    with pytest.raises((NotInRegistry, PublishError)):
        rollback_release(store, release_id, **WHO)
