from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from gateway.registry import journal, numbering
from gateway.registry.directory import DirectorySource
from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import MOST_HISTORY, pointer_of
from gateway.registry.publishing import Published, PublishOptions, publish_version, recover
from gateway.registry.release_document import render_release
from gateway.registry.store import StoreError
from gateway.registry.switching import PublishError, retire_version, serve_version, stop_serving
from gateway.versions import ModelVersion
from tests.support.registry import ARTIFACT, CONTENT, prepared, publish
from tests.support.releases import plan, running

SERVE = PublishOptions(serve=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


@pytest.fixture
def store(root: Path) -> FolderStore:
    return FolderStore(root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return prepared(tmp_path / "prepared")


def put(store: FolderStore, source: Path, options: PublishOptions = SERVE, model: str = "m") -> Published:
    return publish_version(store, source, model, actor="ann", reason="because", options=options)


def desired(root: Path) -> dict[str, tuple[int, ...]]:
    return asyncio.run(DirectorySource(root).desired())


def test_a_published_version_is_complete_verified_and_served(store: FolderStore, root: Path, source: Path) -> None:
    published = put(store, source)
    assert (published.version, published.generation) == (ModelVersion("m", 1), 1)
    assert desired(root) == {"m": (1,)}
    manifest = DirectorySource(root).verify(ModelVersion("m", 1))
    assert [file.path for file in manifest.files] == [ARTIFACT]
    assert manifest.lineage["published"]["by"] == "ann"
    assert (root / "m/1" / ARTIFACT).read_bytes() == CONTENT
    assert os.listdir(root / ".staging") == []


def test_publishing_alone_changes_nothing_that_is_served(store: FolderStore, root: Path, source: Path) -> None:
    put(store, source, PublishOptions())
    assert desired(root) == {}
    put(store, source)
    put(store, source, PublishOptions())
    assert desired(root) == {"m": (2,)}
    publish(root, "by_hand", 4)
    put(store, source, PublishOptions(), model="by_hand")
    assert desired(root) == {"m": (2,), "by_hand": (4,)}


def test_numbers_are_never_used_again(store: FolderStore, root: Path, source: Path) -> None:
    for _ in range(3):
        put(store, source)
    retire_version(store, ModelVersion("m", 2), actor="ann")
    store.remove("m/2")
    serve_version(store, ModelVersion("m", 1), actor="ann")
    retire_version(store, ModelVersion("m", 3), actor="ann")
    store.remove("m/3")
    assert put(store, source).version.number == 4
    publish(root, "m", 9)
    assert put(store, source).version.number == 10


def test_a_number_that_no_reader_would_see_is_not_given_out(store: FolderStore, root: Path, source: Path) -> None:
    publish(root, "m", 9_999_999_998)
    assert put(store, source).version.number == 9_999_999_999
    for _ in range(2):
        with pytest.raises(PublishError, match=r"m has a version 9999999999, .* no number is left"):
            put(store, source)
    assert sorted(os.listdir(root / "m")) == ["9999999998", "9999999999", "serving.json"]
    assert os.listdir(root / ".registry/numbers/m") == ["9999999999"]


def test_the_journal_says_who_what_and_why(store: FolderStore, source: Path) -> None:
    put(store, source)
    put(store, source, PublishOptions())
    serve_version(store, ModelVersion("m", 2), actor="bob", reason="better")
    serve_version(store, ModelVersion("m", 2), actor="bob", reason="again")
    retire_version(store, ModelVersion("m", 1), actor="bob", reason="old")
    stop_serving(store, "m", actor="eve", reason="enough")
    found = [
        (e["action"], e.get("version"), e.get("generation"), e["actor"], e["reason"]) for e in journal.entries(store)
    ]
    assert found == [
        ("publish", 1, None, "ann", "because"),
        ("serve", 1, 1, "ann", "because"),
        ("publish", 2, None, "ann", "because"),
        ("serve", 2, 2, "bob", "better"),
        ("retire", 1, None, "bob", "old"),
        ("stop", None, 3, "eve", "enough"),
    ]


def test_the_pointer_keeps_what_it_does_not_know_and_a_bounded_history(
    store: FolderStore, root: Path, source: Path
) -> None:
    put(store, source)
    put(store, source, PublishOptions())
    pointer = json.loads((root / "m/serving.json").read_text())
    (root / "m/serving.json").write_text(json.dumps(pointer | {"shadow": {"version": 2}}))
    for round_ in range(MOST_HISTORY + 5):
        serve_version(store, ModelVersion("m", 1 + (round_ + 1) % 2), actor="ann")
    after = pointer_of(store, "m")
    assert after is not None
    assert after.other["shadow"] == {"version": 2}
    assert len(after.history) == MOST_HISTORY
    assert after.history[-1]["generation"] == after.generation == MOST_HISTORY + 6


def test_what_gets_traffic_cannot_be_retired_and_what_is_retired_cannot_be_served(
    store: FolderStore, source: Path
) -> None:
    put(store, source)
    put(store, source)
    with pytest.raises(PublishError, match="serve another version first"):
        retire_version(store, ModelVersion("m", 2), actor="ann")
    serve_version(store, ModelVersion("m", 2), actor="ann", also=(1,))
    pointer = retire_version(store, ModelVersion("m", 1), actor="ann")
    assert pointer is not None
    assert pointer.desired == (2,)
    with pytest.raises(PublishError, match="was retired"):
        serve_version(store, ModelVersion("m", 1), actor="ann")


def test_the_highest_version_of_a_model_without_a_pointer_counts_as_served(store: FolderStore, root: Path) -> None:
    publish(root, "m", 1)
    publish(root, "m", 2)
    with pytest.raises(PublishError, match="is the one that is served"):
        retire_version(store, ModelVersion("m", 2), actor="ann")


def test_a_release_in_progress_is_not_disturbed(store: FolderStore, root: Path, source: Path) -> None:
    put(store, source)
    pointer = json.loads((root / "m/serving.json").read_text())
    (root / "m/serving.json").write_text(json.dumps(pointer | {"release": render_release(running(plan("m", 2, 1)))}))
    with pytest.raises(PublishError, match="release"):
        put(store, source)
    with pytest.raises(PublishError, match="release"):
        stop_serving(store, "m", actor="ann")
    assert numbering.numbers_present(store, "m") == (1,)


@pytest.mark.parametrize(
    ("model", "number", "message"),
    [("m", 7, "not in the registry"), ("m", 0, "not in"), ("../m", 1, "not a model name")],
)
def test_what_is_not_there_cannot_be_served(
    store: FolderStore, source: Path, model: str, number: int, message: str
) -> None:
    put(store, source)
    with pytest.raises(PublishError, match=message):
        serve_version(store, ModelVersion(model, number), actor="ann")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 65, "a b", "ä"])
def test_bad_names_are_refused_before_anything_is_written(
    store: FolderStore, root: Path, source: Path, name: str
) -> None:
    with pytest.raises(PublishError, match="is not a model name"):
        put(store, source, model=name)
    assert list(root.iterdir()) == []


def test_nobody_publishes_anonymously(store: FolderStore, source: Path) -> None:
    with pytest.raises(PublishError, match="actor"):
        publish_version(store, source, "m", actor=" ")


def test_links_and_special_files_are_refused(store: FolderStore, source: Path, tmp_path: Path) -> None:
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    with pytest.raises(PublishError) as caught:
        put(store, source)
    assert "link is a link" in str(caught.value)
    assert "pipe is a link or a special file" in str(caught.value)


def test_a_bad_manifest_leaves_nothing_but_a_gap(store: FolderStore, root: Path, tmp_path: Path) -> None:
    bad = prepared(tmp_path / "bad", max_batch_size=-1, targets=[{"name": "python", "artifacts": ["../x"]}])
    with pytest.raises(PublishError) as caught:
        put(store, bad)
    assert "max_batch_size" in str(caught.value)
    assert "targets[0].artifacts[0]" in str(caught.value)
    assert os.listdir(root / ".staging") == []
    assert not (root / "m").exists()


def test_a_full_disk_is_reported_and_cleaned_up(
    store: FolderStore, root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if "artifacts" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*free some space"):
        put(store, source)
    assert os.listdir(root / ".staging") == []
    assert not (root / "m").exists()


def test_entries_that_a_dead_publisher_owes_are_written_once(store: FolderStore, root: Path, source: Path) -> None:
    put(store, source)
    put(store, source)
    lines = (root / "journal.ndjson").read_text().splitlines(keepends=True)
    (root / "journal.ndjson").write_text("".join(lines[:2]))
    assert recover(store, "m") == 0
    assert recover(store, "m", settle_s=0) == 2
    assert recover(store, "m", settle_s=0) == 0
    found = [(e["action"], e.get("version"), e.get("recovered", False)) for e in journal.entries(store)]
    assert found == [("publish", 1, False), ("serve", 1, False), ("publish", 2, True), ("serve", 2, True)]


def test_nobody_else_changes_files_in_place(store: FolderStore, root: Path, source: Path) -> None:
    """The source is copied: changing it later does not change the version."""
    put(store, source)
    (source / ARTIFACT).write_bytes(b"other")
    DirectorySource(root).verify(ModelVersion("m", 1))
