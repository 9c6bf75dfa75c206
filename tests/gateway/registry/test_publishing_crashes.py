"""Publishers that are killed at every step, and publishers that race."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.registry import journal
from gateway.registry.directory import DirectorySource
from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import pointer_of
from gateway.registry.publishing import PublishOptions, publish_version, recover
from gateway.versions import ModelVersion
from tests.support.publishers import Nursery, publisher
from tests.support.registry import prepared

Desired = dict[str, tuple[int, ...]]
STEPS = [
    "started", "created .registry/numbers/m/2", "numbered", "wrote artifacts/python/model.py", "wrote the files",
    "checked the files", "wrote manifest.sha256", "wrote manifest.json", "placed", "visible", "journaled the version",
    "prepared m/serving.json", "claimed m/serving.json", "replaced m/serving.json", "done",
]  # fmt: skip
FIRST_OF_ALL = [
    *STEPS[:1], "created .registry/numbers/m/1", *STEPS[2:11], "created m/serving.json", "done",
]  # fmt: skip


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


def registry(tmp_path: Path, first: bool) -> tuple[Path, Path]:
    """Returns a registry (with version 1 served, unless `first`) and what the publisher under test publishes."""
    root = tmp_path / "registry"
    root.mkdir()
    if not first:
        old = prepared(tmp_path / "old", b"old")
        publish_version(FolderStore(root), old, "m", actor="a", options=PublishOptions(serve=True))
    return root, prepared(tmp_path / "new", b"new")


def check_readers_see_whole_versions(
    root: Path, old: dict[str, tuple[int, ...]], new: dict[str, tuple[int, ...]]
) -> None:
    source = DirectorySource(root)
    desired = source.scan()
    assert desired in (old, new)
    if (root / "m").exists():
        for number in source.versions("m"):
            source.verify(ModelVersion("m", number))
        for number in desired.get("m", ()):
            source.verify(ModelVersion("m", number))


@pytest.mark.parametrize(("first", "steps"), [(False, STEPS), (True, FIRST_OF_ALL)], ids=["next", "first"])
def test_the_steps_are_those_where_a_publisher_is_killed(
    nursery: Nursery, tmp_path: Path, first: bool, steps: list[str]
) -> None:
    root, new = registry(tmp_path, first)
    assert nursery.publish(root, new, 0) == (0, steps)


@pytest.mark.parametrize(
    ("first", "kill_at"),
    [(False, at + 1) for at in range(len(STEPS))] + [(True, at + 1) for at in range(len(FIRST_OF_ALL))],
    ids=[f"next: {name}" for name in STEPS] + [f"first: {name}" for name in FIRST_OF_ALL],
)
def test_a_publisher_killed_at_any_step(nursery: Nursery, tmp_path: Path, first: bool, kill_at: int) -> None:
    root, new = registry(tmp_path, first)
    code, _ = nursery.publish(root, new, kill_at)
    assert code == -signal.SIGKILL
    dead_number = 1 if first else 2
    old: Desired = {} if first else {"m": (1,)}
    check_readers_see_whole_versions(root, old, {"m": (dead_number,)})

    # The next publisher needs no help, and does not use the dead one's number again if it was seen.
    store = FolderStore(root)
    published = publish_version(store, new, "m", actor="next", options=PublishOptions(serve=True))
    numbered = (FIRST_OF_ALL if first else STEPS)[kill_at - 1] != "started"
    assert published.version.number == dead_number + (1 if numbered else 0)
    assert DirectorySource(root).scan() == {"m": (published.version.number,)}
    check_readers_see_whole_versions(root, {"m": (published.version.number,)}, {})

    # What the dead one left is found, removed, and told in the journal.
    store.leftovers(3600, remove=True)
    assert os.listdir(root / ".staging") == []
    recover(store, "m", settle_s=0)
    told = [(e["action"], e.get("version"), e.get("generation")) for e in journal.entries(store, "m")]
    assert len(set(told)) == len(told)
    pointer = pointer_of(store, "m")
    assert pointer is not None
    present = {("publish", number, None) for number in DirectorySource(root).versions("m")}
    pointed = {("serve", item["stable"], item["generation"]) for item in pointer.history}
    assert set(told) == present | pointed
    assert [item["generation"] for item in pointer.history] == list(range(1, pointer.generation + 1))


def test_two_publishers_lose_nothing(tmp_path: Path) -> None:
    """50 rounds: 50 numbers, all there, and the generation grew by exactly 50, while a reader never sees it fall."""
    root, new = registry(tmp_path, first=False)
    before = pointer_of(FolderStore(root), "m")
    assert before is not None
    processes = [publisher(root, new, 25, actor) for actor in ("one", "two")]
    source, seen = DirectorySource(root), [before.generation]
    while any(process.poll() is None for process in processes):
        pointer = source.serving("m")
        assert pointer is not None
        assert pointer.stable is not None
        seen.append(pointer.generation)
        source.verify(ModelVersion("m", pointer.stable))
    assert seen == sorted(seen)
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    published = [json.loads(line) for lines in outputs for line in lines]
    assert sorted(number for number, _ in published) == list(range(2, 52))
    assert sorted(generation for _, generation in published) == list(range(2, 52))
    after = pointer_of(FolderStore(root), "m")
    assert after is not None
    assert after.generation == before.generation + 50
    assert source.versions("m") == tuple(range(1, 52))
    for number in source.versions("m"):
        source.verify(ModelVersion("m", number))
    told = [(e["action"], e["version"]) for e in journal.entries(FolderStore(root))]
    assert sorted(told) == sorted([(a, n) for a in ("publish", "serve") for n in range(1, 52)])
    assert os.listdir(root / ".staging") == []


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(tmp_path: Path) -> None:
    root, new = registry(tmp_path, first=True)
    (new / "golden").mkdir()
    (new / "golden/cases.json").write_text("{}")
    (new / "labels.txt").write_text("a\nb\n")
    publish_version(FolderStore(root), new, "m", actor="a", options=PublishOptions(serve=True))
    folder = root / "m/1"
    assert files_of(folder) == [
        "artifacts/python/model.py", "golden/cases.json", "labels.txt", "manifest.json", "manifest.sha256",
    ]  # fmt: skip
    source = DirectorySource(root)
    for name in files_of(folder):
        content = (folder / name).read_bytes()
        for position in range(0, len(content), max(1, len(content) // 40)):
            for bit in (0, 3, 7):
                flipped = bytearray(content)
                flipped[position] ^= 1 << bit
                (folder / name).write_bytes(flipped)
                with pytest.raises(ValueError, match=name.replace(".", r"\.")):
                    source.verify(ModelVersion("m", 1))
        (folder / name).write_bytes(content)
        source.verify(ModelVersion("m", 1))
