"""What a look costs, and what it does not miss."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from gateway.registry import layout
from gateway.registry.folder_store import FolderStore
from gateway.registry.looking import SWEEP
from gateway.registry.store import SAME, Mark, Same, Stored, StoreError, Unfit, Written
from gateway.registry.switching import retire_version, serve_version, stop_serving
from gateway.registry.watcher import RegistryError, RegistryWatcher
from gateway.versions import ModelVersion
from tests.support.versions import MODEL, publish, switch

V1, V2 = ModelVersion(MODEL, 1), ModelVersion(MODEL, 2)


class Counting(FolderStore):
    """Counts what is really read; `broken` keys cannot be."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_keys: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.copied: list[str] = []
        self.broken: set[str] = set()

    def reread(self, key: str, mark: Mark) -> Stored | Same | None:
        self.asked[key] += 1
        if key in self.broken:
            raise StoreError(f"{key} cannot be read")
        found = super().reread(key, mark)
        if found is not SAME:
            self.read_keys[key] += 1
        return found

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written:
        self.copied.append(key)
        return super().fetch(key, target, most)


class Bucket(Counting):
    """Where each look is a request."""

    @property
    def lanes(self) -> int:
        return 4

    @property
    def listing_seconds(self) -> float:
        return 30.0

    def touch(self) -> None:
        path = self.root / layout.CHANGED_KEY
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(8))


class World:
    """A registry, its store, a watcher, and a time that passes when told."""

    def __init__(self, folder: Path, kind: type[Counting] = Counting) -> None:
        self.folder = folder
        self.root = folder / "registry"
        self.root.mkdir(exist_ok=True)
        self.store = kind(self.root)
        self.time = 1000.0
        self.watcher = self.again()

    def again(self) -> RegistryWatcher:
        self.watcher = RegistryWatcher(lambda: self.store, str(self.root), self.folder / "cache", now=lambda: self.time)
        return self.watcher

    def look(self) -> dict[str, tuple[int, ...]]:
        self.store.read_keys.clear()
        self.store.asked.clear()
        return self.watcher.look()


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago counts as at rest, as if the tests took their time."""
    monkeypatch.setattr("gateway.registry.durable._UNSETTLED_S", 0.0)


def many(world: World, count: int) -> list[str]:
    """Makes `count` models that share what version 1 of `MODEL` is."""
    names = [f"m{number:03d}" for number in range(count)]
    for name in names:
        (world.root / name).mkdir()
        (world.root / name / layout.SERVING_FILE).write_text('{"schema_version": 1, "generation": 1, "stable": 1}')
    return names


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


def test_of_a_file_that_is_too_long_nothing_is_copied(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/long").write_bytes(bytes(1000))
    assert store.fetch("m/long", tmp_path / "copy", 999) == Written(1000, "")
    assert not (tmp_path / "copy").exists()
    assert store.fetch("m/long", tmp_path / "copy", 1000).size == 1000


def test_in_a_bucket_pointers_are_looked_at_in_turn(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket)
    names = many(world, 3 * SWEEP + 5)
    world.look()
    assert len(pointers(world)) == len(names)
    seen: set[str] = set()
    for _ in range(4):
        world.look()
        assert len(pointers(world)) <= SWEEP
        seen |= pointers(world)
    assert seen == {f"{name}/serving.json" for name in names}


def test_in_a_bucket_a_writers_word_makes_all_be_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket)
    names = many(world, 2 * SWEEP)
    publish(world.root, tmp_path, 1)
    world.look()
    serve_version(world.store, V1, actor="test", allow_breaking=True)
    world.look()
    assert len(pointers(world)) == len(names) + 1
    assert world.watcher.allows_breaking(MODEL)


def test_in_a_bucket_what_could_not_be_read_is_asked_again_first(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket)
    many(world, 2 * SWEEP)
    world.store.broken = {"m063/serving.json"}
    assert "m063" not in world.look()
    assert world.watcher.unreadable() == {"m063"}
    world.look()
    assert world.store.asked["m063/serving.json"] == 1, "although it is not its turn"
    world.store.broken = set()
    assert world.look()["m063"] == (1,)
    assert world.watcher.alarms() == []


def pointers(world: World) -> set[str]:
    return {key for key in world.store.asked if key.endswith(layout.SERVING_FILE)}


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
