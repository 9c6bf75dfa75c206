"""Releases in the registry: what may follow what, two writers, and a writer that dies at any step."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.core.compatibility import breaking_changes
from gateway.judgements import Decision, DecisionKind, EvidenceBundle
from gateway.registry import journal
from gateway.registry.bundle_document import parse_bundle
from gateway.registry.folder_store import FolderStore
from gateway.registry.overview import model_overview
from gateway.registry.pointing import pointer_of
from gateway.registry.release_commands import (
    pause_release,
    promote_release,
    resume_release,
    rollback_release,
)
from gateway.registry.release_history import bundles_of, release_entries
from gateway.registry.release_starting import MOST_QUEUED, start_release
from gateway.registry.releasing import advance, mend_journal
from gateway.registry.serving import ServingPointer
from gateway.registry.switching import NotInRegistry, PublishError, serve_version
from gateway.releases import Arm, Criteria, Release, ReleaseKind, ReleasePlan, ReleaseStatus, SupersedePolicy
from gateway.versions import ModelVersion
from tests.support.registry import publish
from tests.support.releases import HOUR, SECOND, plan, steps

NOW = 1_700_000_000 * SECOND
WHO: dict[str, Any] = {"actor": "ann", "reason": "because", "now": NOW + SECOND}


class Died(BaseException):
    """The process was killed."""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    for number in (1, 2, 3, 4):
        publish(tmp_path, "m", number)
    store = FolderStore(tmp_path)
    serve_version(store, ModelVersion("m", 1), actor="ann")
    return store


def start(store: FolderStore, of: ReleasePlan | None = None, **more: Any) -> Release:
    begun, _ = start_release(store, of or plan(id="", salt=""), now=NOW, **more)
    pointer = pointer_now(store)
    assert pointer.release is not None
    assert begun.id
    return pointer.release


def pointer_now(store: FolderStore) -> ServingPointer:
    pointer = pointer_of(store, "m")
    assert pointer is not None
    return pointer


def decided(release: Release, kind: DecisionKind, at: int = NOW + 2 * SECOND, **changes: Any) -> EvidenceBundle:
    to = replace(release.progress, decision=release.progress.decision + 1, detail=kind.value, **changes)
    return EvidenceBundle(release=release, decision=Decision(kind=kind, detail=kind.value, to=to), at=at)


def actions(store: FolderStore) -> list[str]:
    return [str(entry["action"]) for entry in journal.entries(store, "m") if "release" in entry]


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


@pytest.mark.parametrize("policy", list(SupersedePolicy))
@pytest.mark.parametrize("said_at_start", [True, False])
def test_a_newer_release_is_refused_queued_or_takes_over(
    store: FolderStore, policy: SupersedePolicy, said_at_start: bool
) -> None:
    first = start(store, plan(id="", on_newer=SupersedePolicy.REFUSE if said_at_start else policy))
    newer = plan(id="", salt="", candidate=3)
    more = {"if_running": policy} if said_at_start else {}
    if policy is SupersedePolicy.REFUSE:
        with pytest.raises(PublishError, match="m-r1 of m is in progress"):
            start_release(store, newer, now=NOW, **more)
        assert pointer_now(store).release == first
        return
    begun, status = start_release(store, newer, now=NOW, **more)
    pointer = pointer_now(store)
    if policy is SupersedePolicy.QUEUE:
        assert (status, pointer.release, pointer.queued) == (ReleaseStatus.QUEUED, first, (begun,))
        assert 3 not in pointer.desired
        assert 3 in pointer.needed
        promote_release(store, "m-r1", full=True, **WHO)
        after = pointer_now(store)
        assert after.release is not None
        assert (after.release.plan.id, after.release.plan.stable, after.queued) == ("m-r2", 2, ())
        assert after.release.progress.step_started_at == WHO["now"]
        assert actions(store)[-2:] == ["release promote", "release start"]
    else:
        assert pointer.release is not None
        assert pointer.release.plan == begun
        assert pointer.rejected == ()
        assert actions(store) == ["release start", "release supersede", "release start"]


def test_a_queued_release_may_be_withdrawn_and_the_queue_is_bounded(store: FolderStore) -> None:
    start(store)
    for _ in range(MOST_QUEUED):
        start_release(store, plan(id="", candidate=3), now=NOW, if_running=SupersedePolicy.QUEUE)
    with pytest.raises(PublishError, match="wait already"):
        start_release(store, plan(id="", candidate=3), now=NOW, if_running=SupersedePolicy.QUEUE)
    rollback_release(store, "m-r2", **WHO)
    assert [waiting.id for waiting in pointer_now(store).queued] == [f"m-r{n}" for n in range(3, MOST_QUEUED + 2)]


def test_a_queued_release_of_what_is_stable_or_rejected_by_then_is_passed_over(store: FolderStore) -> None:
    start(store)
    for candidate in (2, 3):
        start_release(store, plan(id="", candidate=candidate), now=NOW, if_running=SupersedePolicy.QUEUE)
    rollback_release(store, "m-r1", **WHO)
    release = pointer_now(store).release
    assert release is not None
    assert release.plan.candidate == 3


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


@pytest.mark.parametrize("dies_at", ["claimed", "bundled", "pointed"])
def test_a_start_that_dies_has_begun_or_has_not(store: FolderStore, dies_at: str) -> None:
    def step(name: str) -> None:
        if name == dies_at:
            raise Died

    with pytest.raises(Died):
        start_release(store, plan(id=""), now=NOW, step=step)
    if dies_at == "pointed":
        with pytest.raises(PublishError, match="m-r1 of m is in progress"):
            start(store)
        pause_release(store, "m-r1", **WHO)
        assert [entry["action"] for entry in release_entries(store, "m", 9)] == ["release pause", "release start"]
    else:
        assert pointer_now(store).release is None
        assert start(store).plan.id == "m-r2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": (Arm("candidate", 9),)}, "m/9 is not in the registry"),
        ({"arms": (Arm("candidate", 1),)}, "m/1 is the stable version already"),
        ({"steps": ()}, "at least one step"),
        ({"steps": steps(100, 100)}, "more weight than the one before"),
        ({"steps": steps(20_000)}, "0 to 10000"),
        ({"steps": steps(0, 10_000)}, "needs a share between"),
        ({"shadow_share": 0}, "compares copies needs some"),
        ({"actor": " "}, "an actor is needed"),
        ({"model_name": "../m"}, "not a model name"),
        ({"kind": ReleaseKind.AB}, "fixed shares and no steps"),
        ({"criteria": Criteria(error_rate=5.0)}, "criteria.error_rate: must be from 0 to 0.99"),
        ({"criteria": Criteria(power=1.0)}, "criteria.power"),
    ],
)
def test_what_cannot_start_says_why_and_changes_nothing(
    store: FolderStore, change: dict[str, Any], message: str
) -> None:
    before = pointer_now(store)
    with pytest.raises(PublishError, match=message):
        start_release(store, plan(id="", **change), now=NOW)
    assert pointer_now(store) == before


def test_a_version_that_the_same_callers_cannot_use_is_refused(store: FolderStore) -> None:
    publish(store.root, "m", 5, inputs=[{"name": "X2", "datatype": "FP32", "shape": [3]}])
    of = plan(id="", candidate=5)
    with pytest.raises(PublishError, match="m/5 would break callers of version 1: input 'X' is gone"):
        start_release(store, of, now=NOW, breaking=breaking_changes)
    assert pointer_now(store).release is None


def test_the_overview_says_what_a_version_is_there_for(store: FolderStore) -> None:
    def states() -> dict[int, str]:
        return {item["version"]: item["state"] for item in model_overview(store, "m")["versions"]}

    start(store)
    assert states() == {4: "published", 3: "published", 2: "candidate", 1: "stable"}
    rollback_release(store, "m-r1", **WHO)
    assert states() == {4: "published", 3: "published", 2: "rejected", 1: "stable"}


def test_a_model_that_is_not_served_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    publish(tmp_path, "m", 2)
    (tmp_path / "m/serving.json").write_text(json.dumps({"schema_version": 1, "generation": 1, "stable": None}))
    with pytest.raises(PublishError, match="m is not served"):
        start_release(FolderStore(tmp_path), plan(id=""), now=NOW)


@pytest.mark.parametrize("release_id", ["m-r9", "x-r1", "m", "", "-r1", "m-r", "../m-r1", "m-rx"])
def test_an_unknown_id_is_no_release(store: FolderStore, release_id: str) -> None:
    with pytest.raises((NotInRegistry, PublishError)):
        rollback_release(store, release_id, **WHO)
