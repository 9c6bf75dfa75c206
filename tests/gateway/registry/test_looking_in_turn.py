"""Where each look is a request, pointers are looked at in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.registry import layout
from gateway.registry.directory import RegistryError
from gateway.registry.looking import SWEEP
from gateway.registry.store import Listed, Mark, Same, StoreError
from gateway.registry.switching import serve_version
from gateway.versions import ModelVersion
from tests.support.looking import Bucket, World, many
from tests.support.versions import MODEL, publish

V1 = ModelVersion(MODEL, 1)


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


def test_a_writers_word_holds_until_a_look_came_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(folder: str, mark: Mark) -> Listed | Same:
        raise StoreError("away")

    world = World(tmp_path, Bucket)
    names = many(world, 3 * SWEEP)
    world.look()
    for name in names:
        (world.root / name / layout.SERVING_FILE).write_text('{"schema_version": 1, "generation": 2, "stable": 2}')
    world.store.touch()
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "relist", away)
        with pytest.raises(RegistryError, match="away"):
            world.look()
    assert world.look() == dict.fromkeys(names, (2,))


def pointers(world: World) -> set[str]:
    return {key for key in world.store.asked if key.endswith(layout.SERVING_FILE)}
