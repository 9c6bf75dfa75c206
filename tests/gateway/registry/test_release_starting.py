"""Starting a release: who may, in whose place, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.compatibility import breaking_changes
from gateway.registry.document import DocumentError
from gateway.registry.folder_store import FolderStore
from gateway.registry.overview import model_overview
from gateway.registry.pointing import change_pointer
from gateway.registry.release_commands import (
    pause_release,
    promote_release,
    rollback_release,
)
from gateway.registry.release_history import release_entries, release_of
from gateway.registry.release_options import rule_of
from gateway.registry.release_starting import MOST_QUEUED, start_release
from gateway.registry.releasing import PASSED_OVER, first_progress
from gateway.registry.switching import PublishError
from gateway.releases import Arm, Criteria, Release, ReleaseKind, ReleaseStatus, SupersedePolicy
from tests.support.registry import publish
from tests.support.release_store import NOW, WHO, Died, actions, pointer_now, start, store_with_versions
from tests.support.releases import plan, steps


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return store_with_versions(tmp_path)


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
    passed_over = release_of(store, "m-r2").progress
    assert (passed_over.status, passed_over.detail) == (ReleaseStatus.ENDED, PASSED_OVER)
    found = [(entry["release"], entry["action"]) for entry in reversed(release_entries(store, "m", 9))]
    assert found[:3] == [("m-r1", "release start"), ("m-r2", "release start"), ("m-r3", "release start")]
    assert sorted(found[3:]) == [
        ("m-r1", "release rollback"), ("m-r2", "release finish"), ("m-r3", "release start"),
    ]  # fmt: skip


def test_rules_of_a_queued_release_follow_the_stable_version(store: FolderStore) -> None:
    start(store)
    rules = tuple(rule_of(f"header x-arm equals {number} -> {number}", {}) for number in (1, 3))
    start_release(store, plan(id="", candidate=3, rules=rules), now=NOW, if_running=SupersedePolicy.QUEUE)
    promote_release(store, "m-r1", full=True, **WHO)
    release = pointer_now(store).release
    assert release is not None
    assert (release.plan.stable, [rule.version for rule in release.plan.rules]) == (2, [2, 3])


def test_nothing_is_written_that_could_not_be_read_again(store: FolderStore) -> None:
    start(store)
    before = store.read("m/serving.json")
    with pytest.raises(DocumentError, match="arms"):
        change_pointer(store, "m", lambda pointer: pointer and replace(pointer, stable=2, release=Release(
            replace(plan(), arms=()), first_progress(NOW))), "", "ann", "")  # fmt: skip
    assert store.read("m/serving.json") == before


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
