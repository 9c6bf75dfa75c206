from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from gateway.registry import owners
from gateway.registry.folder_store import FolderStore
from gateway.registry.store import AlreadyThere, Changed, StoreError

KEY = "m/serving.json"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def sleeping_claim(store: FolderStore, content: bytes, tag: str, number: int = 0) -> Path:
    """Leaves what a publisher leaves that died after its claim; returns its staging folder."""
    staged = store.root / ".staging" / f"s-{number:024x}"
    staged.mkdir(parents=True)
    (staged / "owner.json").write_bytes(owners.Owner("boot", "space", 1, "1").to_bytes())
    (staged / "prepared").write_bytes(content)
    claims = store.root / ".registry/claims" / KEY
    claims.mkdir(parents=True, exist_ok=True)
    (claims / f"{tag}.0").write_text(staged.name)
    return staged


def test_of_two_writers_that_read_the_same_content_one_wins(store: FolderStore) -> None:
    tag = store.create(KEY, b"1")
    store.replace(KEY, b"2", tag)
    with pytest.raises(Changed):
        store.replace(KEY, b"other", tag)
    found = store.read(KEY)
    assert found is not None
    assert found.content == b"2"
    assert os.listdir(store.root / ".staging") == []


def test_create_never_writes_over(store: FolderStore) -> None:
    store.create(KEY, b"1")
    with pytest.raises(AlreadyThere):
        store.create(KEY, b"2")
    found = store.read(KEY)
    assert found is not None
    assert found.content == b"1"


def test_a_claim_whose_owner_died_is_carried_out_by_the_next_writer(store: FolderStore) -> None:
    tag = store.create(KEY, b"1")
    sleeping_claim(store, b"2", tag)
    with pytest.raises(Changed):
        store.replace(KEY, b"3", tag)
    found = store.read(KEY)
    assert found is not None
    assert found.content == b"2"
    store.replace(KEY, b"3", found.tag)
    assert (store.root / KEY).read_bytes() == b"3"


def test_collecting_carries_claims_out_too(store: FolderStore) -> None:
    tag = store.create(KEY, b"1")
    staged = sleeping_claim(store, b"2", tag)
    store.leftovers(3600, remove=False)
    assert (store.root / KEY).read_bytes() == b"1"
    store.leftovers(3600, remove=True)
    assert (store.root / KEY).read_bytes() == b"2"
    assert staged.exists(), "its owner cannot be judged from here, so its folder waits for the age limit"


def test_a_claim_is_never_carried_out_twice(store: FolderStore) -> None:
    """Whoever slept while others went on must not bring an old pointer back."""
    first = store.create(KEY, b"1")
    second = store.replace(KEY, b"2", first)
    store.replace(KEY, b"3", second)
    for tag in (first, second):
        with pytest.raises(Changed):
            store.replace(KEY, b"late", tag)
    store.leftovers(0, remove=True)
    assert (store.root / KEY).read_bytes() == b"3"


def test_an_old_content_put_back_by_hand_can_be_replaced(store: FolderStore) -> None:
    first = store.create(KEY, b"1")
    for again in range(3):
        second = store.replace(KEY, b"2", first)
        (store.root / KEY).write_bytes(b"1")
        with pytest.raises(Changed):
            store.replace(KEY, b"late", second)
        assert (store.root / KEY).read_bytes() == b"1", again


def test_log_lines_survive_a_torn_one(store: FolderStore) -> None:
    store.append("log", b"one")
    with open(store.root / "log", "ab") as file:
        file.write(b"tor")
    assert list(store.lines("log")) == [b"one"]
    store.append("log", b"two")
    assert list(store.lines("log")) == [b"one", b"tor", b"two"]
    assert list(store.lines("nothing")) == []


def test_what_dead_processes_left_is_found_and_removed(store: FolderStore) -> None:
    writing = store.begin("m/1")
    writing.add("a/b", b"content")
    assert store.leftovers(3600, remove=True) == []
    assert os.listdir(store.root / ".staging") != []
    (staged,) = (store.root / ".staging").iterdir()
    here = owners.current()
    child = subprocess.Popen(["true"])
    child.wait()
    (staged / "owner.json").write_bytes(owners.Owner(here.boot, here.namespace, child.pid, "1").to_bytes())
    (line,) = store.leftovers(3600, remove=False)
    assert "is gone" in line
    store.leftovers(3600, remove=True)
    assert os.listdir(store.root / ".staging") == []


def test_what_nobody_can_judge_is_removed_by_age(store: FolderStore) -> None:
    store.begin("m/1")
    (staged,) = (store.root / ".staging").iterdir()
    (staged / "owner.json").write_text("{not finished")
    os.utime(staged, (0, 0))
    (line,) = store.leftovers(3600, remove=True)
    assert "untouched" in line


def test_a_process_is_not_mistaken_for_another_with_its_number() -> None:
    here = owners.current()
    assert not here.surely_dead()
    assert owners.Owner(here.boot, here.namespace, here.pid, "1").surely_dead()
    assert not owners.Owner("another boot", here.namespace, here.pid, "1").surely_dead()
    assert not owners.Owner(here.boot, "another namespace", 999_999_999, "1").surely_dead()
    assert owners.parse_owner(here.to_bytes()) == here
    assert owners.parse_owner(json.dumps({"boot": 1}).encode()) is None


def test_versions_are_complete_or_absent(store: FolderStore) -> None:
    writing = store.begin("m/1")
    writing.add("artifacts/x", b"content")
    assert store.names("m") == []
    writing.commit(b"{}")
    assert store.names("m/1") == ["artifacts", "manifest.json"]
    again = store.begin("m/1")
    again.add("artifacts/x", b"other")
    with pytest.raises(AlreadyThere):
        again.commit(b"{}")
    again.abandon()
    assert (store.root / "m/1/artifacts/x").read_bytes() == b"content"
    store.remove("m/1")
    store.remove("m/1")
    assert store.names("m") == []
    assert os.listdir(store.root / ".staging") == []


def test_links_are_not_followed_out(store: FolderStore, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside"
    outside.write_bytes(b"secret")
    (store.root / "m/1").mkdir(parents=True)
    (store.root / "m/1/file").symlink_to(outside)
    with pytest.raises(StoreError, match="leads out"):
        store.digest("m/1/file")
    with pytest.raises(StoreError, match="leads out"):
        store.fetch("m/1/file", tmp_path / "copy")
    assert store.digest("m/1/nothing") is None


def test_a_staging_folder_elsewhere_is_refused(store: FolderStore) -> None:
    (store.root / ".staging").symlink_to("/tmp")
    with pytest.raises(StoreError, match="file system"):
        store.begin("m/1")


def test_a_missing_root_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder"):
        FolderStore(tmp_path / "nothing")


@pytest.mark.parametrize("linked", ["m/1", "m"])
def test_a_folder_linked_from_elsewhere_is_no_part_of_the_registry(tmp_path: Path, linked: str) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "elsewhere/1").mkdir(parents=True)
    (tmp_path / "elsewhere/1/file").write_bytes(b"secret")
    store = FolderStore(tmp_path / "registry")
    link = store.root / linked
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere" / ("1" if linked == "m/1" else ""))
    with pytest.raises(StoreError, match="link that leads out of the registry"):
        store.fetch("m/1/file", tmp_path / "copy")
    with pytest.raises(StoreError, match="link that leads out of the registry"):
        store.digest("m/1/file")
    assert not (tmp_path / "copy").exists()


def test_links_inside_the_registry_and_to_it_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real/m/2").mkdir(parents=True)
    (tmp_path / "real/m/2/file").write_bytes(b"content")
    (tmp_path / "real/m/1").symlink_to("2")
    (tmp_path / "registry").symlink_to(tmp_path / "real")
    store = FolderStore(tmp_path / "registry")
    assert store.fetch("m/1/file", tmp_path / "copy").size == len(b"content")
