"""The release step of a pipeline with real releases in a real registry: followed to its end, never started twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import pointer_of
from gateway.registry.release_commands import pause_release, promote_release, rollback_release
from gateway.registry.release_history import release_of
from gateway.registry.release_starting import start_release
from gateway.releases import SupersedePolicy
from jobs.client import Client
from jobs.job import Job
from jobs.pipeline.pipeline import Pipeline, Publish, Release
from jobs.pipeline.releasing import known_release, outcome_of, release
from jobs.pipeline.steps import Run, StepFailed, Stopped
from jobs.state_folder import StateFolder
from tests.support.registry import publish
from tests.support.release_store import NOW, WHO, actions, start, store_with_versions
from tests.support.releases import plan

OPTIONS = ("--steps", "5%,100%", "--admin", "127.0.0.1:1")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return store_with_versions(tmp_path / "registry")


def run(tmp_path: Path, reached: Callable[[str], None] = lambda _: None, kind: str = "start", **more: Any) -> Run:
    pipeline = Pipeline(
        name="p", job="job.toml", model="m", publish=Publish(registry=str(tmp_path / "registry")),
        release=Release(kind=kind, options=more.pop("options", OPTIONS)),
    )  # fmt: skip
    job = Job(name="j", command=("true",), folder=str(tmp_path))
    state = StateFolder(tmp_path / "state")
    said: list[str] = more.pop("said", [])
    stop = threading.Event()
    return Run(pipeline, job, "1", tmp_path, state, cast(Client, None), stop, said.append, reached)


def ends(tmp_path: Path, end: Callable[[FolderStore], object], **more: Any) -> tuple[dict[str, Any], Run]:
    store = FolderStore(tmp_path / "registry")

    def reached(place: str) -> None:
        if place == "release: started":
            end(store)

    made = run(tmp_path, reached, **more)
    return release(made, 2), made


def test_promoted(tmp_path: Path, store: FolderStore) -> None:
    said: list[str] = []
    found, made = ends(tmp_path, lambda s: promote_release(s, "m-r1", full=True, **WHO), said=said)
    assert (found["outcome"], found["release"]) == ("promoted", "m-r1")
    assert "refused" not in found
    assert any("m-r1 is promoted" in line for line in said)
    begun = release_of(store, "m-r1").plan
    assert (begun.reason, [step.weight for step in begun.steps]) == ("pipeline p:1", [500, 10_000])
    # As after a kill before the step was recorded.
    assert release(made, 2)["outcome"] == "promoted"
    # Its watch ends, another version is released in its place: it was promoted all the same, and is not started again.
    promote_release(store, "m-r1", **WHO)
    start(store, plan(id="", salt="", candidate=3))
    promote_release(store, "m-r2", full=True, **WHO)
    assert release(made, 2)["outcome"] == "promoted"
    assert actions(store).count("release start") == 2


def test_rolled_back(tmp_path: Path, store: FolderStore) -> None:
    found, made = ends(tmp_path, lambda s: rollback_release(s, "m-r1", **(WHO | {"reason": "slow"})))
    assert found["outcome"] == "rolled back"
    assert found["refused"] == ["release m-r1 of version 2: rolled back: slow"]
    assert release(made, 2) == found
    start(store, plan(id="", salt="", candidate=3))
    assert release(made, 2)["outcome"] == "rolled back"
    assert actions(store).count("release start") == 2


def test_superseded_is_neither(tmp_path: Path, store: FolderStore) -> None:
    def newer(found: FolderStore) -> None:
        start_release(found, plan(id="", candidate=3), now=NOW, if_running=SupersedePolicy.SUPERSEDE)

    found, made = ends(tmp_path, newer)
    assert found["outcome"] == "ended"
    assert "m-r1" in found["refused"][0]
    assert release(made, 2)["outcome"] == "ended"


def test_one_that_waits_is_followed_until_it_may_start(tmp_path: Path, store: FolderStore) -> None:
    start(store, plan(id="", salt="", candidate=3))

    def later(found: FolderStore) -> None:
        assert [queued.id for queued in pointer_of(found, "m").queued] == ["m-r2"]  # type: ignore[union-attr]
        rollback_release(found, "m-r1", **WHO)
        promote_release(found, "m-r2", full=True, **WHO)

    found, _ = ends(tmp_path, later, options=(*OPTIONS, "--if-running", "queue"))
    assert (found["outcome"], found["release"]) == ("promoted", "m-r2")


def test_paused_waits_for_a_person_and_says_so(tmp_path: Path, store: FolderStore) -> None:
    said: list[str] = []
    start(store, plan(id="", salt="", candidate=2))
    pause_release(store, "m-r1", **WHO)
    made = run(tmp_path, said=said)
    made.stop.set()
    with pytest.raises(Stopped):
        release(made, 2)
    assert "sluice releases resume | promote | rollback m-r1" in said[0]


def test_a_number_that_begins_alike_is_another_version(tmp_path: Path, store: FolderStore) -> None:
    publish(tmp_path / "registry", "m", 21)
    start(store, plan(id="", salt="", candidate=21))
    assert known_release(store, pointer_of(store, "m"), "m", 2) is None
    assert known_release(store, pointer_of(store, "m"), "m", 21) == "m-r1"
    assert outcome_of(store, release_of(store, "m-r1"), 21) is None


def test_refused_to_start_is_a_failure_that_may_be_tried_again(tmp_path: Path, store: FolderStore) -> None:
    start(store, plan(id="", salt="", candidate=3))
    with pytest.raises(StepFailed, match="m-r1 of m is in progress"):
        release(run(tmp_path), 2)


def test_what_has_no_version_to_compare_with_is_served(tmp_path: Path) -> None:
    publish(tmp_path / "registry", "m", 1)
    assert release(run(tmp_path), 1) == {"outcome": "served"}
    assert release(run(tmp_path), 1) == {"outcome": "served"}
    assert release(run(tmp_path, kind="none"), 1) == {"outcome": "published"}


def test_a_command_under_way_ends_with_the_stop(tmp_path: Path) -> None:
    from jobs.pipeline import steps

    made = run(tmp_path)
    made = replace(made, stop=threading.Event())
    made.stop.set()
    with pytest.raises(Stopped):
        steps.sluice(made, "jobs", "serve", "--port", "0", "--state-folder", str(tmp_path / "jobs"))
