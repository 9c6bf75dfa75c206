"""What a look costs, and what it does not miss."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gateway.registry import layout
from gateway.registry.folder_store import FolderStore
from gateway.registry.serving import ServingPointer, parse_serving
from gateway.registry.store import Unfit, Written
from gateway.registry.switching import retire_version, serve_version, stop_serving
from gateway.registry.watcher import RegistryError
from gateway.versions import ModelVersion
from tests.support.looking import Counting, World, many
from tests.support.versions import MODEL, publish, switch

V1, V2 = ModelVersion(MODEL, 1), ModelVersion(MODEL, 2)


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago counts as at rest, as if the tests took their time."""
    monkeypatch.setattr("gateway.registry.durable._UNSETTLED_S", 0.0)


@pytest.mark.usefixtures("old")
def test_an_unchanged_registry_is_not_read_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    names = many(world, 20)
    world.look()
    world.watcher.look_up(V1)
    world.look()
    assert world.look() == {MODEL: (1,), **dict.fromkeys(names, (1,))}
    assert not world.store.read_keys, "nothing was read"
    assert world.store.asked[f"{MODEL}/serving.json"] == 1
    switch(world.root, 1, allow_breaking=True)
    world.look()
    assert dict(world.store.read_keys) == {f"{MODEL}/serving.json": 1}, "only what changed is read"


@pytest.mark.usefixtures("old")
def test_no_mark_is_believed_for_longer_than_a_minute(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    world.look()
    for seconds, reads in ((30.0, 0), (31.0, 1), (1.0, 0), (-500.0, 1)):
        world.time += seconds
        world.look()
        assert world.store.read_keys[f"{MODEL}/serving.json"] == reads


def test_what_was_written_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """Two writes within one tick of the file system's clock look alike from outside."""
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    world.look()
    world.look()
    assert world.store.read_keys[f"{MODEL}/serving.json"] == 1


def test_a_pipe_or_a_file_where_a_pointer_or_a_model_should_be_keeps_nobody_waiting(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    (world.root / "README.md").write_text("a file is no model")
    (world.root / "pipe").mkdir()
    os.mkfifo(world.root / "pipe" / layout.SERVING_FILE)
    (world.root / "folder" / layout.SERVING_FILE).mkdir(parents=True)
    assert world.look() == {MODEL: (1,)}
    assert world.watcher.unreadable() == {"pipe", "folder"}
    assert [alarm.partition(";")[0] for alarm in world.watcher.alarms()] == [
        "folder: folder/serving.json is not a regular file", "pipe: pipe/serving.json is not a regular file",
    ]  # fmt: skip


def test_a_new_model_whose_pointer_cannot_be_used_is_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    pointer = world.root / MODEL / layout.SERVING_FILE
    good = pointer.read_bytes()
    pointer.write_text("{")
    assert world.look() == {}
    assert world.watcher.unreadable() == {MODEL}
    assert "none of it is served" in world.watcher.alarms()[0]
    pointer.write_bytes(good)
    assert world.look() == {MODEL: (1,)}
    assert world.watcher.unreadable() == frozenset()
    pointer.write_text("{")
    assert world.look() == {MODEL: (1,)}
    assert world.watcher.unreadable() == frozenset(), "what was known goes on"


@pytest.mark.parametrize("restart", [True, False])
def test_a_withdrawal_that_no_look_saw_counts(tmp_path: Path, restart: bool) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    publish(world.root, tmp_path, 2, serve=False)
    world.look()
    world.watcher._state.set_last_good(MODEL, 1)
    if restart:
        world.again()
    stop_serving(world.store, MODEL, actor="test")
    serve_version(world.store, V2, actor="test")
    assert world.look() == {MODEL: (2,)}
    assert world.watcher.last_good(MODEL) is None
    assert world.again().last_good(MODEL) is None


def test_other_changes_that_no_look_saw_leave_what_served_last(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    publish(world.root, tmp_path, 2)
    publish(world.root, tmp_path, 3, serve=False)
    switch(world.root, 1)
    world.look()
    world.watcher._state.set_last_good(MODEL, 1)
    for number in (2, 3, 2, 3):
        switch(world.root, number)
    assert world.look() == {MODEL: (3,)}
    assert world.watcher.last_good(MODEL) == 1
    for number in [2, 3] * 30:
        switch(world.root, number)
    assert world.look() == {MODEL: (3,)}
    assert world.watcher.last_good(MODEL) is None, "what the history has forgotten may have been a withdrawal"


def test_a_retired_version_does_not_come_back_by_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    world.look()
    world.watcher._state.set_last_good(MODEL, 1)
    publish(world.root, tmp_path, 2)
    retire_version(world.store, V1, actor="test")
    world.look()
    assert world.watcher.last_good(MODEL) == 1, "it is what serves until the other can"
    world.again()
    world.look()
    assert world.watcher.last_good(MODEL) is None


@pytest.mark.usefixtures("old")
def test_what_was_found_wrong_is_not_copied_again_until_it_changes(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    world.look()
    path = world.root / MODEL / "1/golden/cases.npz"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")

    def refused() -> int:
        world.store.copied.clear()
        with pytest.raises(ValueError, match=r"golden/cases\.npz has another sha256"):
            world.watcher.look_up(V1)
        return len(world.store.copied)

    assert [refused(), refused(), refused()] == [3, 0, 0]
    path.write_bytes(good[:-1] + b"!")
    assert refused() == 3, "the file changed"
    world.time += 3601
    assert refused() == 3, "an hour has passed"
    switch(world.root, 1, allow_breaking=True)
    world.look()
    assert [refused(), refused()] == [3, 0], "somebody decided anew"
    path.unlink()
    with pytest.raises(ValueError, match=r"golden/cases\.npz is missing"):
        world.watcher.look_up(V1)
    world.store.copied.clear()
    with pytest.raises(ValueError, match=r"golden/cases\.npz is missing"):
        world.watcher.look_up(V1)
    assert world.store.copied == []
    path.write_bytes(good)
    assert world.watcher.look_up(V1)[0].version == V1


def test_a_file_that_a_served_version_lost_is_an_alarm_within_a_minute(tmp_path: Path) -> None:
    world = World(tmp_path)
    publish(world.root, tmp_path, 1)
    world.look()
    world.watcher.look_up(V1)
    assert world.look() == {MODEL: (1,)}
    assert world.watcher.alarms() == []
    path = world.root / MODEL / "1/golden/cases.npz"
    good = path.read_bytes()
    path.unlink()
    (world.root / MODEL / "1/artifacts/python/model.py").write_text("longer or shorter")
    for seconds, alarms in ((30, 0), (31, 1)):
        world.time += seconds
        assert world.look() == {MODEL: (1,)}
        assert len(world.watcher.alarms()) == alarms
    (alarm,) = world.watcher.alarms()
    assert alarm.startswith("shift/1: ")
    assert alarm.endswith("(and 1 more); serving the verified copy")
    assert world.watcher.look_up(V1)[0].version == V1
    path.write_bytes(good)
    world.time += 61
    world.look()
    (alarm,) = world.watcher.alarms()
    assert "model.py has another size than when it was published" in alarm


def test_of_a_file_that_is_too_long_nothing_is_copied(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/long").write_bytes(bytes(1000))
    assert store.fetch("m/long", tmp_path / "copy", 999) == Written(1000, "")
    assert not (tmp_path / "copy").exists()
    assert store.fetch("m/long", tmp_path / "copy", 1000).size == 1000


class Refused(Counting):
    """A store that ignores preconditions."""

    checks = 0

    def check(self) -> None:
        type(self).checks += 1
        raise Unfit("it ignores If-Match")


def test_a_place_that_cannot_hold_a_registry_is_not_followed(tmp_path: Path) -> None:
    world = World(tmp_path, Refused)
    for seconds, checks in ((0.0, 1), (10.0, 1), (60.0, 2)):
        world.time += seconds
        with pytest.raises(RegistryError, match="it ignores If-Match"):
            world.look()
        assert Refused.checks == checks, "asking writes something there, so it is not done at every look"


@pytest.mark.parametrize(
    "more",
    [
        {"history": [{"generation": [], "stable": 1}]},
        {"history": [{"generation": {}, "stable": 1}]},
        {"history": [{"stable": 1}], "generation": 2**63 - 1},
    ],
)
def test_a_pointer_that_says_strange_things_is_no_other_models_misfortune(
    tmp_path: Path, more: dict[str, object]
) -> None:
    world = World(tmp_path)
    strange, other = many(world, 2)
    world.look()
    plain = {"schema_version": 1, "generation": 5, "stable": 2}
    (world.root / strange / "serving.json").write_text(json.dumps(plain | more))
    (world.root / other / "serving.json").write_text(json.dumps(plain))
    assert world.look() == {strange: (2,), other: (2,)}
    assert world.watcher.alarms() == []


def test_a_generation_that_no_counter_holds_changes_nothing_for_any_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    strange, other = many(world, 2)
    world.look()
    plain = {"schema_version": 1, "generation": 5, "stable": 2}
    (world.root / strange / "serving.json").write_text(json.dumps(plain | {"generation": 10**30}))
    (world.root / other / "serving.json").write_text(json.dumps(plain))
    assert world.look() == {strange: (1,), other: (2,)}
    assert f"{strange}: serving.json: generation: must be at most {2**63 - 1}; serving what it said last" in caplog.text


def test_a_bug_that_one_model_lays_bare_is_no_other_models_misfortune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(content: bytes) -> ServingPointer:
        if b"7" in content:
            raise ZeroDivisionError
        return parse_serving(content)

    world = World(tmp_path)
    strange, other = many(world, 2)
    world.look()
    monkeypatch.setattr("gateway.registry.looking.parse_serving", parse)
    for name, number in ((strange, 7), (other, 2)):
        pointer = {"schema_version": 1, "generation": 5, "stable": number}
        (world.root / name / "serving.json").write_text(json.dumps(pointer))
    assert world.look() == {strange: (1,), other: (2,)}
    assert world.watcher.alarms() == [f"{strange}: internal error (ZeroDivisionError); left as it was"]
