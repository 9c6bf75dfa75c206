"""A registry that counts what is asked of it, and a watcher in a time that passes when told."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from gateway.registry import layout
from gateway.registry.folder_store import FolderStore
from gateway.registry.store import SAME, Mark, Same, Stored, StoreError, Written
from gateway.registry.watcher import RegistryWatcher


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


def many(world: World, count: int) -> list[str]:
    """Makes `count` models that share what version 1 of `MODEL` is."""
    names = [f"m{number:03d}" for number in range(count)]
    for name in names:
        (world.root / name).mkdir()
        (world.root / name / layout.SERVING_FILE).write_text('{"schema_version": 1, "generation": 1, "stable": 1}')
    return names
